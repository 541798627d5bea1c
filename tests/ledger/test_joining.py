"""Runners that meet in one folder: every row once, all of them done, and an overwritten one gives way."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from batchneuron.errors import Incomplete, OutputConflict
from batchneuron.ledger.lease import Claims
from batchneuron.ledger.verify import verify_folder
from batchneuron.run import Watch, run_job
from batchneuron.workers.events import OthersSeen, PartDone
from tests.faults.harness import read_rows

TWO_ROWS = "output.shard_rows=2"


@pytest.mark.case(25)
def test_two_runners_of_one_job_both_end_well_and_no_row_is_there_twice(make_spec, tmp_path):
    spec = make_spec(TWO_ROWS)
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: run_job(spec), range(2))

    assert read_rows(tmp_path / "out")["_row"].to_pylist() == list(range(42))
    made = sum(len(summary.done_now) - summary.done_twice for summary in (one, two))
    assert made == one.shards == two.shards
    assert verify_folder(str(tmp_path / "out")).is_whole
    assert list((tmp_path / "out/.batchneuron/leases").iterdir()) == []


@pytest.mark.case(25)
def test_a_runner_leaves_to_another_what_it_has_done_meanwhile(make_spec, tmp_path, monkeypatch):
    """The second runner does all the rest while the first is at its first shard."""
    monkeypatch.setattr("batchneuron.ledger.lease._LOOK_EVERY_S", 0.01)
    spec, seen, opened, second = make_spec(TWO_ROWS), [], [], []

    class Kept(Claims):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            opened.append(self)

    def listen(event):
        seen.append(event)
        if isinstance(event, PartDone) and not second:
            second.append(run_job(spec))
            while len(opened[0].done) < second[0].shards:
                time.sleep(0.01)

    monkeypatch.setattr("batchneuron.run.Claims", Kept)
    first = run_job(spec, watch=Watch(on_event=listen))

    assert len(first.done_now) == 1
    assert sum(len(each.done_now) - each.done_twice for each in (first, second[0])) == first.shards
    assert verify_folder(str(tmp_path / "out")).is_whole
    assert [event for event in seen if isinstance(event, OthersSeen)][-1].rows_done > 0


def test_a_finished_run_is_overwritten_on_demand_only(make_spec, tmp_path):
    run_job(make_spec())
    with pytest.raises(OutputConflict, match="run --overwrite"):
        run_job(make_spec("options.top_k=2"))

    summary = run_job(make_spec("options.top_k=2"), overwrite=True)
    again = run_job(make_spec("options.top_k=2"))

    assert len(summary.done_now) == summary.shards and again.done_now == ()
    assert len(list((tmp_path / "out/data").iterdir())) == summary.shards
    assert verify_folder(str(tmp_path / "out")).is_whole


def test_the_same_finished_job_is_done_again_and_an_unfinished_one_taken_up(make_spec, tmp_path):
    parts = []
    watch = Watch(
        on_event=lambda event: parts.append(event) if isinstance(event, PartDone) else None,
        is_stopped=lambda: bool(parts),
    )
    run_job(make_spec())
    with pytest.raises(Incomplete):
        run_job(make_spec(), overwrite=True, watch=watch)

    summary = run_job(make_spec(), overwrite=True)

    assert len(parts) == 1 and len(summary.done_now) == summary.shards - 1
    assert verify_folder(str(tmp_path / "out")).is_whole


@pytest.mark.case(28)
def test_a_runner_that_is_overwritten_gives_way(make_spec, tmp_path):
    new = []

    def overwrite(event):
        if isinstance(event, PartDone) and not new:
            new.append(run_job(make_spec("options.top_k=2"), overwrite=True))

    with pytest.raises(OutputConflict, match="overwritten by another"):
        run_job(make_spec(), watch=Watch(on_event=overwrite))

    assert verify_folder(str(tmp_path / "out")).is_whole
    assert new[0].rows == 42
