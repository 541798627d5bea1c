"""The whole way of a job in one process: what is in the output, and what a second call does."""

import shutil
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from batchneuron.errors import TooManyRejected
from batchneuron.run import _Ledger, run_job
from batchneuron.spec.sections import ErrorsSpec
from batchneuron.watch import Watch
from batchneuron.workers.events import PartDone, RowIsolated, StageSeconds


def test_every_row_is_there_once_and_a_second_run_has_nothing_to_do(make_spec, tmp_path):
    spec = make_spec()

    first = run_job(spec)
    second = run_job(spec)

    table = pq.read_table(tmp_path / "out" / "data")
    assert table["_row"].to_pylist() == list(range(42))
    assert table["id"].to_pylist() == list(range(42))
    assert set(table["label"].to_pylist()) <= {"bad", "fair", "good"}
    assert (first.rows, first.rejected, len(first.done_now)) == (42, 0, first.shards)
    assert second.done_now == ()


def test_an_output_within_the_input_is_no_input(make_spec, rows_folder, tmp_path):
    """The same command again has nothing to do, and labels no part of its own when it begins anew."""
    pin = shutil.copytree(rows_folder, tmp_path / "pin")
    spec = make_spec(f"input.path={pin}", f"output.path={pin / 'out'}")

    first, second, anew = run_job(spec), run_job(spec), run_job(spec, overwrite=True)

    assert [made.rows for made in (first, second, anew)] == [42, 42, 42]
    assert (second.done_now, len(anew.done_now)) == ((), first.shards)
    assert pq.read_table(pin / "out/data")["id"].to_pylist() == list(range(42))
    beside = run_job(make_spec(f"input.path={pin / 'out'}", f"output.path={tmp_path / 'beside'}"))
    assert beside.rows == 42


class Counted(dict):
    """Parts by shard; how often all of them were looked at."""

    looks = 0

    def values(self):
        self.looks += 1
        return super().values()


def part_of(shard, rejected):
    return PartDone(shard, 10, rejected, 0, 1, 1, 1, "", True, StageSeconds())


def test_the_budget_counts_each_rejected_row_once_and_looks_at_no_part_twice():
    opened = SimpleNamespace(
        plan=SimpleNamespace(rows=1000),
        prepared=SimpleNamespace(spec=SimpleNamespace(errors=ErrorsSpec(max_rejected=6))),
        order=SimpleNamespace(
            spec=SimpleNamespace(output=SimpleNamespace(path="out")),
            record=None,
        ),
        folder=SimpleNamespace(write_progress=lambda *_: None),
    )
    ledger = _Ledger(opened, Watch(), done=Counted())
    for event in (
        RowIsolated(1, 17, "worker_crash", "it died"),
        part_of(0, 2),
        part_of(1, 3),  # the isolated row is one of these
        part_of(0, 3),  # made again
    ):
        ledger.record(event)
    assert ledger.done.looks == 0

    with pytest.raises(TooManyRejected, match="7 of 1000 rows"):
        ledger.record(part_of(2, 1))
