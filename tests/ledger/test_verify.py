"""Verify: a whole run is told to be whole; each kind of damage is named, and its repair mends it."""

import json
import shlex
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import DataError, OutputConflict
from batchneuron.ledger.replay import Wish, count_different, replay_rows
from batchneuron.ledger.run_folder import FINGERPRINT_KEY
from batchneuron.ledger.verify import verify_folder
from batchneuron.run import run_job
from tests.backends.planted import nudge, plant


@pytest.fixture(scope="module")
def finished(classifier, rows_folder, tmp_path_factory):
    """A finished run of 42 rows in four parts, and its spec."""
    from batchneuron.spec.parse import parse_spec
    from batchneuron.tasks import OPTIONS

    root = tmp_path_factory.mktemp("verify")
    spec = parse_spec(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        f"input: {{path: '{rows_folder}', columns: {{text: text}}}}\n"
        "shapes: {batch_size: 4, sequence_length: [8, 16, 48]}\n"
        "backend: {workers: 0, kind: torch}\n"
        f"output: {{path: '{root / 'out'}', shard_rows: 10}}\n",
        "test.yaml",
        (),
        OPTIONS,
    )
    run_job(spec)
    return root / "out", spec


@pytest.fixture
def out(finished, tmp_path):
    """A copy, to be broken."""
    return shutil.copytree(finished[0], tmp_path / "out")


def parts_of(out):
    return sorted((out / "data").iterdir())


def rewrite(path, change):
    """The same part with other rows or another footer."""
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def put(table, name, values):
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


def test_a_finished_run_is_whole(finished):
    found = verify_folder(str(finished[0]))

    assert found.is_whole and found.exit_code == 0
    assert (found.shards, found.rows, found.rows_found, found.rejected) == (4, 42, 42, 0)
    assert found.flaws == found.strays == ()


DAMAGES = {
    "deleted": (lambda path: path.unlink(), 75, "missing"),
    "empty": (lambda path: path.write_bytes(b""), 73, "not a readable Parquet file"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-40]), 73, "not a readable Parquet file"),
    "one bit": (flip_byte, 73, ""),
    "another part's": (lambda path: shutil.copy(parts_of(path.parent.parent)[1], path), 73, "footer"),
    "foreign": (lambda path: pq.write_table(pa.table({"x": [0] * 10}), path), 73, "not of this run"),
    "rows in another order": (
        lambda path: rewrite(path, lambda table: table.take(list(range(table.num_rows))[::-1])),
        73,
        "in order",
    ),
    "a row twice": (
        lambda path: rewrite(path, lambda table: put(table, "_row", [*range(table.num_rows - 1), 0])),
        73,
        "in order",
    ),
    "another prediction": (
        lambda path: rewrite(path, lambda table: put(table, "score", np.zeros(table.num_rows))),
        73,
        "not the file that the manifest lists",
    ),
    "rejected rows uncounted": (
        lambda path: rewrite(
            path,
            lambda table: put(
                table, "_error", [{"code": "x", "message": "y"}] + [None] * (table.num_rows - 1)
            ),
        ),
        73,
        "1 rows are rejected, its footer says 0",
    ),
}


@pytest.mark.case(31)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_its_repair_mends_it(out, finished, damage):
    hurt, code, what = DAMAGES[damage]
    path = parts_of(out)[0]
    hurt(path)

    found = verify_folder(str(out))

    assert found.exit_code == code
    assert [flaw.file for flaw in found.flaws] == [f"data/{path.name}"]
    assert what in found.flaws[0].what
    command, comma, _ = found.flaws[0].repair.partition(", and run the job again")
    assert bool(comma) == (code == 73)
    if comma:
        subprocess.run(shlex.split(command), check=True)
    output = finished[1].output.model_copy(update={"path": str(out)})
    run_job(finished[1].model_copy(update={"output": output}))
    assert verify_folder(str(out)).is_whole


def test_a_run_without_manifest_is_not_finished(out):
    (out / ".batchneuron/manifest.json").unlink()

    found = verify_folder(str(out))

    assert (found.exit_code, found.flaws[0].file) == (75, ".batchneuron/manifest.json")


@pytest.mark.parametrize(
    "change",
    [{"rows": 41}, {"rejected": 1}, {"parts": []}, {"parts": "none"}],
    ids=lambda change: str(change),
)
def test_a_manifest_that_does_not_fit_is_told(out, change):
    path = out / ".batchneuron/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    found = verify_folder(str(out))

    assert found.exit_code == 73
    assert [flaw.file for flaw in found.flaws] == [".batchneuron/manifest.json"]
    assert found.flaws[0].repair.startswith(f"rm {path}")


def test_a_record_that_was_edited_is_told(out):
    path = out / ".batchneuron/run.json"
    record = json.loads(path.read_text())
    record["fields"]["task"] = "fill-mask"
    path.write_text(json.dumps(record))

    assert [flaw.file for flaw in verify_folder(str(out)).flaws] == [".batchneuron/run.json"]


def test_strays_are_named_and_are_no_flaw(out):
    (out / "data" / "notes.txt").write_text("mine")

    found = verify_folder(str(out))

    assert found.is_whole and found.strays == ("notes.txt",)


def test_without_a_run_or_its_plan_nothing_is_proved(out, tmp_path):
    with pytest.raises(DataError, match="no run in this folder"):
        verify_folder(str(tmp_path / "nowhere"))
    next((out / ".batchneuron").glob("plan-*")).unlink()
    with pytest.raises(OutputConflict, match="plan"):
        verify_folder(str(out))


def test_a_replay_gives_the_same_bits(finished):
    few = replay_rows(str(finished[0]), Wish(rows=12, seed=3))
    every = replay_rows(str(finished[0]), Wish(share=1.0))

    assert few.is_same and len(few.shards) == 2 and 12 <= few.rows < 42
    assert few.shards == replay_rows(str(finished[0]), Wish(rows=12, seed=3)).shards
    assert (every.is_same, every.rows, every.shards, every.differences) == (True, 42, (0, 1, 2, 3), ())


def test_a_replay_finds_a_single_changed_bit(out):
    path = parts_of(out)[0]
    footer = pq.read_schema(path).metadata

    def nudge_one(table):
        scores = table["score"].to_numpy().copy()
        scores[3] = np.nextafter(scores[3], np.float32(2))
        return put(table, "score", scores).replace_schema_metadata(footer)

    rewrite(path, nudge_one)
    replayed = replay_rows(str(out), Wish(share=1.0))

    assert FINGERPRINT_KEY.encode() in footer
    assert (replayed.is_same, replayed.rows_different) == (False, 1)


def test_another_machine_s_replay_must_agree_and_need_not_be_equal(out, monkeypatch):
    plant(monkeypatch, float32=nudge)
    wide = replay_rows(str(out), Wish(share=1.0))

    assert any(line.startswith("backend.kind") for line in wide.differences)
    assert wide.rows_different == 0
    assert wide.is_same == (not wide.excesses)


def test_a_replay_of_other_rows_is_refused(out):
    path = out / ".batchneuron/run.json"
    record = json.loads(path.read_text())
    record["spec"]["input"]["limit"] = 7
    path.write_text(json.dumps(record))

    with pytest.raises(OutputConflict, match=r"input\.limit: 7 here"):
        replay_rows(str(out), Wish(rows=1))


def test_bits_are_compared_and_not_values():
    ours, theirs = (pa.table({"x": pa.array([zero, 1.0, None, [0.5][0]])}) for zero in (0.0, -0.0))

    assert count_different(ours, theirs) == 1
    assert count_different(ours, ours) == 0
