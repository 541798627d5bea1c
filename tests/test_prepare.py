"""Preparing: what a spec names is found and checked before a row is read, and sampled as it will be run."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron import tasks
from batchneuron.errors import BatchNeuronError, ColumnMissing, ModelError, SourceNotFound, SpecError
from batchneuron.ledger.run_record import RunRecord
from batchneuron.planning.cost import estimate_cost
from batchneuron.planning.fingerprint import name_differences
from batchneuron.planning.prepare import make_order, make_plan, prepare
from tests.tiny import MAX_POSITIONS, save_bert

RECORD = RunRecord("f" * 64, "0" * 8, {}, "plan", 1, 42, {})


def count_tokens(rows_folder):
    """Tokens of each text: its words and two special ones."""
    table = pq.read_table(rows_folder)
    return [len(text.split()) + 2 for text in table["text"].to_pylist()]


def edges_of(plan):
    return [shape.sequence_length for shape in plan.ladder.shapes]


def test_everything_that_is_named_is_found(make_spec, classifier):
    prepared = prepare(make_spec())

    assert prepared.inventory.rows == 42
    assert prepared.request.model.folder == classifier
    assert prepared.request.options == {"top_k": 1, "function_to_apply": "auto"}
    assert prepared.columns.keep == {"id": "id", "text": "text", "note": "note"}
    assert prepared.task.schema.names == ["label", "score"]


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("options.top_k=2", "options.top_k"),
        ("shapes.batch_size=2", "shapes.batch_size"),
        ("shapes.sequence_length=[8,48]", "shapes.sequence_length"),
        ("shapes.overflow=split", "shapes.overflow"),
        ("shapes.max_length=30", "shapes.max_length"),
        ("output.shard_rows=7", "shard_rows"),
        ("input.limit=5", "input.limit"),
        ("input.encoding_errors=replace", "input.encoding_errors"),
        ("input.keep=[id]", "input.keep"),
        ("input.keep={}", "input.keep"),
        ("input.columns.text='{note} {text}'", "input.columns.text"),
        ("model.dtype=bfloat16", "backend.precision"),
        ("backend.precision=bfloat16", "backend.precision"),
        ("backend.compiler_args={optlevel: 1}", "backend.compiler_args.optlevel"),
    ],
)
def test_what_can_change_a_row_is_in_the_fingerprint_by_name(make_spec, override, field):
    ours, theirs = prepare(make_spec(override)).fingerprint, prepare(make_spec()).fingerprint

    names = [line.partition(":")[0] for line in name_differences(ours.fields, theirs.fields)]
    assert field in names
    assert ours.digest != theirs.digest


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "backend.workers=3",
        "backend.kind=torch",
        "output.compression=snappy",
        "output.path=elsewhere",
        "errors.max_rejected=0.5",
    ],
)
def test_what_cannot_change_a_row_is_not(make_spec, override):
    assert prepare(make_spec(override)).fingerprint == prepare(make_spec()).fingerprint


def test_the_weights_and_the_files_are_in_the_fingerprint(make_spec, rows_folder, tmp_path):
    before = prepare(make_spec()).fingerprint
    other = save_bert(tmp_path / "other", labels=["bad", "fair", "good"], seed=1)
    copy = tmp_path / "rows"
    copy.mkdir()
    for path in rows_folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())

    for override, field in ((f"model.id={other}", "model.digest"), (f"input.path={copy}", "input.files")):
        after = prepare(make_spec(override)).fingerprint
        (line,) = name_differences(after.fields, before.fields)
        assert line.startswith(f"{field}: ")


def test_a_model_in_another_folder_is_the_same_model(make_spec, classifier, tmp_path):
    (tmp_path / "moved").symlink_to(classifier)

    assert (
        prepare(make_spec(f"model.id={tmp_path / 'moved'}")).fingerprint == prepare(make_spec()).fingerprint
    )


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("input.path=/nowhere/at/all", SourceNotFound),
        ("model.id=/nowhere/at/all", ModelError),
        ("input.columns.text=body", ColumnMissing),
        ("input.keep=[body]", ColumnMissing),
        ("input.keep={score: id}", SpecError),
    ],
)
def test_what_is_not_there_is_said_before_a_row_is_read(make_spec, override, error):
    with pytest.raises(error):
        prepare(make_spec(override))


def test_a_task_that_this_version_lacks_is_named_with_those_it_has(make_spec, monkeypatch):
    spec = make_spec("task=feature-extraction")
    monkeypatch.delitem(tasks.KINDS, "feature-extraction")

    with pytest.raises(SpecError, match=r"'feature-extraction' is not available yet.*text-classification"):
        prepare(spec)


def test_the_sample_of_a_small_input_is_all_of_it(make_spec, rows_folder):
    plan = make_plan(prepare(make_spec()))
    tokens = count_tokens(rows_folder)

    assert plan.rows == 42
    assert plan.tokens_per_row == pytest.approx(sum(tokens) / 42)
    slots = sum(min(edge for edge in (8, 16, 48) if edge >= count) for count in tokens)
    assert 1 - sum(tokens) / slots < plan.forecast.padding_share < 1  # and fillers of four shards' batches
    assert edges_of(plan) == [8, 16, 48]
    assert {shape.batch_size for shape in plan.ladder.shapes} == {4}


def test_the_plan_is_the_same_every_time(make_spec):
    assert make_plan(prepare(make_spec())) == make_plan(prepare(make_spec()))


@pytest.mark.parametrize(
    ("overrides", "longest"),
    [
        (["shapes.sequence_length=auto"], MAX_POSITIONS),
        (["shapes.sequence_length=auto", "shapes.max_length=20"], 20),
        (["shapes.sequence_length=20"], 20),
        (["shapes.sequence_length=[20,9]"], 20),
    ],
)
@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_the_longest_shape_is_the_limit(make_spec, overrides, longest, overflow):
    prepared = prepare(make_spec(*overrides, f"shapes.overflow={overflow}"))
    plan = make_plan(prepared)

    assert edges_of(plan)[-1] == longest
    assert make_order(prepared, plan, RECORD).limit.max_tokens == longest
    assert 0 <= plan.forecast.least_share <= plan.forecast.padding_share < 1


def test_a_cap_below_the_ladder_holds(make_spec):
    prepared = prepare(make_spec("shapes.max_length=20"))
    order = make_order(prepared, make_plan(prepared), RECORD)

    assert order.limit.max_tokens == 20
    assert order.limit.overflow == "truncate"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["shapes.sequence_length=[8,49]"], "shapes.sequence_length"),
        (["shapes.sequence_length=auto", "shapes.max_length=49"], "shapes.max_length"),
    ],
)
def test_more_than_the_model_takes_is_refused_with_the_key(make_spec, overrides, key):
    with pytest.raises(SpecError, match=f"{key}: 49 tokens, and the model takes 48"):
        make_plan(prepare(make_spec(*overrides)))


@pytest.mark.parametrize(("limit", "rows"), [(0, 0), (1, 1), (40, 40), (1000, 42)])
def test_only_the_first_rows(make_spec, limit, rows):
    plan = make_plan(prepare(make_spec(f"input.limit={limit}", "shapes.sequence_length=auto")))

    assert plan.rows == rows
    assert edges_of(plan)[-1] == MAX_POSITIONS


def test_rows_that_are_rejected_do_not_count_in_the_sample(make_spec, tmp_path):
    texts = ["alpha beta", None, "gamma", None]
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), tmp_path / "rows.parquet")

    plan = make_plan(prepare(make_spec(f"input.path={tmp_path / 'rows.parquet'}", "input.keep=[]")))

    assert (plan.rows, plan.tokens_per_row) == (4, (4 + 3) / 2)


class Panic(BaseException):
    """What pyo3 makes of a panic in Rust."""


class OddTask:
    """A task whose encoder raises over some texts."""

    def __init__(self, task, texts, error):
        self._task, self._texts, self._error = task, texts, error

    def open_encoder(self):
        encoder = self._task.open_encoder()

        def encode(inputs, limit):
            if not self._texts.isdisjoint(inputs["text"].to_pylist()):
                raise self._error
            return encoder.encode(inputs, limit)

        return SimpleNamespace(model_limit_tokens=encoder.model_limit_tokens, encode=encode)

    def __getattr__(self, name):
        return getattr(self._task, name)


def prepare_odd(make_spec, tmp_path, odd, error):
    texts = ["alpha beta", "odd", None, "gamma", "odder"]
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), tmp_path / "rows.parquet")
    prepared = prepare(make_spec(f"input.path={tmp_path / 'rows.parquet'}", "input.keep=[]"))
    return replace(prepared, task=OddTask(prepared.task, odd, error))


@pytest.mark.parametrize("error", [ValueError("odd"), Panic("odd"), MemoryError()])
def test_rows_that_no_tokenizer_takes_are_left_out_of_the_sample(make_spec, tmp_path, error):
    plan = make_plan(prepare_odd(make_spec, tmp_path, {"odd", "odder"}, error))

    assert (plan.rows, plan.tokens_per_row) == (5, (4 + 3) / 2)


def test_a_tokenizer_that_takes_no_row_is_a_bug(make_spec, tmp_path):
    odd = {"alpha beta", "odd", "gamma", "odder"}
    pq.write_table(pa.table({"text": sorted(odd)}), tmp_path / "rows.parquet")
    prepared = prepare(make_spec(f"input.path={tmp_path / 'rows.parquet'}", "input.keep=[]"))

    with pytest.raises(BatchNeuronError, match="planning: ValueError: odd") as caught:
        make_plan(replace(prepared, task=OddTask(prepared.task, odd, ValueError("odd"))))
    assert caught.value.exit_code == 70


@pytest.mark.parametrize("error", [ModelError("no tokenizer"), KeyboardInterrupt()])
def test_what_is_no_row_s_fault_ends_planning(make_spec, tmp_path, error):
    with pytest.raises(type(error)):
        make_plan(prepare_odd(make_spec, tmp_path, {"odd"}, error))


def test_workers_are_told_only_what_they_need(make_spec):
    prepared = prepare(make_spec("input.keep={key: id}"))
    plan = make_plan(prepared)

    order = make_order(prepared, plan, RECORD)

    assert order.read_schema.names == ["id", "text"]
    assert order.ladder == plan.ladder
    assert [artifact.shape for artifact in order.artifacts] == list(plan.ladder.shapes)
    assert order.record == RECORD


def watch_reads(prepared):
    """The job, and a list that will have the rows of each read."""
    reads = []

    class WatchedSource:
        def open_reader(self, schema):
            reader = prepared.source.open_reader(schema)

            class WatchedReader:
                def read(self, slices):
                    reads.append([row for piece in slices for row in range(piece.row_lo, piece.row_hi)])
                    return reader.read(slices)

                close = reader.close

            return WatchedReader()

    return replace(prepared, source=WatchedSource()), reads


def test_a_long_input_is_sampled_at_the_head_of_some_shards(make_spec, tmp_path):
    table = pa.table({"text": ["alpha"] * 8 * 300 + ["beta beta"] * 8 * 300})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=300)
    spec = make_spec(f"input.path={tmp_path / 'rows.parquet'}", "output.shard_rows=300")
    prepared, reads = watch_reads(prepare(spec))

    plan = make_plan(prepared)

    assert reads == [list(range(start, start + 75)) for start in range(0, 16 * 300, 300)]
    assert plan.tokens_per_row == 3.5


@pytest.mark.parametrize("shard_rows", [6_000, 2_000, 900])
def test_few_shards_are_sampled_all_over(shard_rows, make_spec, tmp_path):
    """Sorted by length: the rows at the head would have the shortest texts alone."""
    texts = ["alpha " * (1 + row // 300) for row in range(6_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet", row_group_size=1_000)
    spec = make_spec(f"input.path={tmp_path / 'rows.parquet'}", f"output.shard_rows={shard_rows}")
    prepared, reads = watch_reads(prepare(spec))

    plan = make_plan(prepared)

    rows = [row for read in reads for row in read]
    assert rows == sorted(set(rows)) and len(rows) == 16 * 93, "a quarter"
    assert (rows[0], rows[-1]) == (0, 5_999) and np.diff(rows).max() < 310
    assert len(reads) == len(plan.shards)
    assert plan.tokens_per_row == pytest.approx(2 + 10.5, abs=0.2)


def test_finding_things_out_needs_neither_torch_nor_a_tokenizer(classifier, rows_folder, tmp_path):
    code = f"""
import sys
from batchneuron.planning.prepare import prepare
from batchneuron.spec.sections import InputSpec, JobSpec, ModelSpec, OutputSpec
spec = JobSpec(task="text-classification", model=ModelSpec(id={str(classifier)!r}),
               input=InputSpec(path={str(rows_folder)!r}), output=OutputSpec(path="out"))
print(prepare(spec).inventory.rows, {{"torch", "transformers", "tokenizers"}} & set(sys.modules))
"""
    root = Path(__file__).parent.parent
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
    )

    assert found.stdout.strip() == "42 set()"
    assert list(tmp_path.iterdir()) == []


def test_a_shard_is_as_many_rows_as_a_core_does_in_its_time(make_spec, tmp_path, monkeypatch):
    """Batches of four rows of eight slots: what one takes is known, and so is what a row takes."""
    pq.write_table(pa.table({"text": ["alpha"] * 2_000}), tmp_path / "rows.parquet")
    shapes = ("shapes.batch_size=4", "shapes.sequence_length=[8]", "input.keep=[]", "output.shard_rows=auto")
    prepared = prepare(make_spec(f"input.path={tmp_path / 'rows.parquet'}", *shapes))
    cost = estimate_cost(prepared.backend.facts.cost, prepared.request.model.config)
    monkeypatch.setattr("batchneuron.planning.plan.MIN_SHARD_ROWS", 1)
    monkeypatch.setattr("batchneuron.planning.plan.LEAST_SHARDS", 1)
    monkeypatch.setattr("batchneuron.planning.plan.SHARD_S", 100.9 * cost.call_s(4, 8) / 4)

    plan = make_plan(prepared)

    assert {shard.rows for shard in plan.shards} == {100}
    assert plan.rows == 2_000
