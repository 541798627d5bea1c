"""Reports: what is said of a run, against its own Parquet files read with plain pyarrow."""

import shutil
from collections import Counter
from dataclasses import astuple, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import ColumnMissing, DataError
from batchneuron.ledger.found import find_run
from batchneuron.ledger.report import (
    Rejected,
    compare_labels,
    iter_rejected,
    read_preview,
    read_speed,
)
from batchneuron.ledger.run_names import DATA, PROGRESS
from batchneuron.ledger.run_record import Progress
from batchneuron.ledger.status import describe_run, read_status
from batchneuron.run import run_job
from batchneuron.spec.parse import parse_spec
from batchneuron.stores.local import LocalStore
from batchneuron.tasks import OPTIONS
from tests.tiny import make_texts

NULLS = (3, 11, 36, 40)
LONG = 20


@pytest.fixture(scope="module")
def run(classifier, tmp_path_factory):
    """A finished run over 37, 0 and 5 rows, four of them without a text, some too long; its summary."""
    root = tmp_path_factory.mktemp("report")
    texts = make_texts(42, longest=25)
    (root / "rows").mkdir()
    for number, (lo, hi) in enumerate([(0, 37), (37, 37), (37, 42)]):
        rows = range(lo, hi)
        table = pa.table(
            {
                "text": pa.array([None if row in NULLS else texts[row] for row in rows], pa.string()),
                "label": pa.array(
                    [[None, "good", None, "bad", None, "good"][row % 6] for row in rows], pa.string()
                ),
                "stars": pa.array(rows, pa.int64()),
            }
        )
        pq.write_table(table, root / "rows" / f"{number}.parquet", row_group_size=11)
    spec = parse_spec(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        f"input: {{path: '{root / 'rows'}'}}\n"
        f"shapes: {{batch_size: 4, sequence_length: [8, {LONG}]}}\n"
        "backend: {kind: torch, workers: 0}\n"
        "errors: {max_rejected: 10}\n"
        f"output: {{path: '{root / 'out'}', shard_rows: 10}}\n",
        "report.yaml",
        (),
        OPTIONS,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        return run_job(spec)


@pytest.fixture(scope="module")
def table(run):
    return pq.read_table(f"{run.output}/data")


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run, to be broken."""
    return shutil.copytree(run.output, tmp_path / "out")


def test_a_finished_run(run):
    status = read_status(run.output)

    assert (status.rows, status.rows_done, status.rejected) == (42, 42, len(NULLS))
    assert status.shards == status.shards_done == run.shards == 4
    assert status.is_finished
    assert status.strays == ()
    assert status.output == run.output


def test_an_unfinished_run_and_what_does_not_belong(copy):
    found = find_run(str(copy))
    folder, record = found.folder, found.record
    plan = folder.read_plan(record)
    (copy / ".batchneuron" / "manifest.json").unlink()
    sorted((copy / "data").iterdir())[1].unlink()
    (copy / "data" / "notes.txt").write_text("x")

    status = read_status(str(copy))

    assert not status.is_finished
    assert (status.shards_done, status.rows_done) == (3, 42 - plan.shards[1].rows)
    assert status.rejected == len(NULLS)  # as reported, the lost part's included
    assert status.strays == ("notes.txt",)


def test_what_it_cost(run):
    speed = read_speed(find_run(run.output))

    assert speed is not None
    slots, tokens = sum(part.slots for part in run.done_now), sum(part.tokens for part in run.done_now)
    assert speed.padding_share == 1 - tokens / slots
    assert speed.truncated == sum(part.truncated for part in run.done_now) > 0
    assert 0 < speed.rows_per_s < 42 / max(speed.seconds.device_s, 1e-9)
    assert min(astuple(speed.seconds)) > 0
    assert speed.seconds.write_s == pytest.approx(sum(part.seconds.write_s for part in run.done_now))
    assert speed.rows == 42


def test_tokens_and_truncation_by_hand(run, table):
    texts = [text for text in table["text"].to_pylist() if text is not None]
    lengths = [len(text.split()) + 2 for text in texts]

    assert sum(part.tokens for part in run.done_now) == sum(min(length, LONG) for length in lengths)
    assert sum(part.truncated for part in run.done_now) == sum(length > LONG for length in lengths)
    assert table["_truncated"].to_pylist().count(True) == sum(length > LONG for length in lengths)


def test_a_part_that_another_runner_had_made_first_is_counted_once(copy, run):
    found = find_run(str(copy))
    folder, record = found.folder, found.record
    (copy / ".batchneuron" / "manifest.json").unlink()
    late = replace(run.done_now[0], created=False, truncated=1000, rejected=1000)
    folder.write_progress(record, Progress("zz", 1.0, (late,)))

    speed = read_speed(find_run(str(copy)))

    assert speed is not None
    assert speed.truncated == sum(part.truncated for part in run.done_now)
    assert read_status(str(copy)).rejected == len(NULLS)


def test_a_run_without_parts_has_no_speed(copy):
    shutil.rmtree(copy / ".batchneuron" / "progress")

    assert read_speed(find_run(str(copy))) is None


def test_a_preview_is_the_first_rows_without_errors_and_vectors(run, table):
    preview = read_preview(find_run(run.output), 3)

    assert preview.column_names == ["_row", "text", "input_label", "stars", "label", "score"]
    assert preview.to_pylist() == table.select(preview.column_names).slice(0, 3).to_pylist()


def test_a_preview_goes_on_into_the_next_part(run):
    assert read_preview(find_run(run.output), 30)["_row"].to_pylist() == list(range(30))


def test_a_preview_of_no_rows_has_the_columns(run):
    assert read_preview(find_run(run.output), 0).num_rows == 0


def test_labels_against_a_column_that_was_carried(run, table):
    agreement = compare_labels(find_run(run.output), "input_label")

    pairs = list(zip(table["label"].to_pylist(), table["input_label"].to_pylist(), strict=True))
    both = [(label, known) for label, known in pairs if label is not None and known is not None]
    known = Counter(known for _, known in pairs if known is not None)
    assert agreement.rows == len(both)
    assert agreement.equal == sum(label == known for label, known in both)
    assert (agreement.majority, agreement.majority_rows) == ("good", known["good"])


def test_labels_against_numbers(run):
    agreement = compare_labels(find_run(run.output), "stars")

    assert (agreement.rows, agreement.equal, agreement.majority_rows) == (42 - len(NULLS), 0, 1)


def test_labels_against_a_column_that_is_not_there(run):
    with pytest.raises(ColumnMissing, match=r"no column 'gold'.*\n.*input_label"):
        compare_labels(find_run(run.output), "gold")


def test_a_report_reads_each_thing_once(run, monkeypatch):
    listed, real = [], LocalStore.list
    monkeypatch.setattr(LocalStore, "list", lambda store, name: listed.append(name) or real(store, name))
    found = find_run(run.output)

    describe_run(found), read_speed(found), read_preview(found, 3), compare_labels(found, "stars")

    assert sorted(listed) == [PROGRESS, DATA]


def test_only_parts_with_rejected_rows_are_opened(run, monkeypatch):
    opened, real = [], LocalStore.open_table

    def open_table(store, name):
        opened.append(name)
        return real(store, name)

    monkeypatch.setattr(LocalStore, "open_table", open_table)

    assert {row.part for row in iter_rejected(find_run(run.output))} == set(opened)
    assert len(opened) < run.shards


def test_rejected_rows_are_found_without_a_manifest(copy):
    (copy / ".batchneuron/manifest.json").write_bytes(b"{")

    assert [row.row for row in iter_rejected(find_run(str(copy)))] == list(NULLS)


def test_every_rejected_row_is_listed_in_order(run):
    found = find_run(run.output)
    folder, record = found.folder, found.record
    shards = folder.read_plan(record).shards
    found = list(iter_rejected(find_run(run.output)))

    assert [rejected.row for rejected in found] == list(NULLS)
    for rejected in found:
        shard = next(shard for shard in shards if shard.row_lo <= rejected.row < shard.row_hi)
        name, record = ("0.parquet", rejected.row) if rejected.row < 37 else ("2.parquet", rejected.row - 37)
        where = f"{Path(run.output).parent / 'rows' / name}: record {record + 1}"
        assert rejected == Rejected(rejected.row, "null_input", f"{where}: 'text' is null", rejected.part)
        assert f"part-{shard.index:05d}_" in rejected.part


@pytest.mark.parametrize("read", [read_status, find_run])
def test_a_folder_without_a_run(tmp_path, read):
    with pytest.raises(DataError, match="no run in this folder"):
        read(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_preview_before_anything_is_there(copy):
    shutil.rmtree(copy / "data")

    with pytest.raises(DataError, match="no part is committed yet"):
        read_preview(find_run(str(copy)), 3)


def test_a_preview_of_a_run_without_rows(make_spec, tmp_path):
    run_job(make_spec("input.limit=0"))

    assert read_preview(find_run(str(tmp_path / "out")), 3).num_rows == 0
