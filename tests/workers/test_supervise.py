"""The supervisor: shards, attempts, deaths and ends."""

import os
import time

import pytest

from batchneuron.errors import (
    BackendError,
    BatchNeuronError,
    DeviceFault,
    ModelError,
    OutputUnwritable,
    SourceChanged,
    SpecError,
    TooManyRejected,
    WorkerFailed,
)
from batchneuron.workers import supervise
from batchneuron.workers.events import (
    Failure,
    OthersSeen,
    PartDone,
    ShardFailed,
    WorkerBroken,
)
from batchneuron.workers.isolate import MAX_ATTEMPTS
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.roster import MAX_FAILURES
from tests.supervised import CORES, IN_HAND, SHARDS, die, failure_of
from tests.workers.test_handout import Others


def test_every_shard_is_done_once_by_workers_on_all_cores(stage):
    stage.run(do=lambda _: time.sleep(0.02))

    assert stage.done == list(range(12))
    assert [stage.count(f"shard-{index}") for index in range(12)] == [1] * 12
    assert stage.starts == [0, 1]


def test_no_more_workers_start_than_there_are_shards(stage):
    stage.run(shards=SHARDS[:1])

    assert stage.done == [0]
    assert stage.starts == [0]


def test_nobody_hoards_the_last_shards(stage, tmp_path):
    """A worker takes its next shard ahead only while there are enough for all."""

    def meet(index):
        (tmp_path / f"at-{index}").touch()
        patience_s = time.monotonic() + 20
        while len(list(tmp_path.glob("at-*"))) < 2:
            assert time.monotonic() < patience_s, "the other shard was never begun beside this one"
            time.sleep(0.01)

    stage.run(do=meet, shards=SHARDS[:2])


def test_what_others_have_in_hand_is_waited_for_by_workers_that_stay(stage, monkeypatch):
    """Shards 0 to 3 are another runner's; of these 0 and 1 appear, and then patience is over."""
    monkeypatch.setattr(supervise, "_POLL_S", 0.02)
    claims = Others(held=range(4))

    def follow(event):
        if event == OthersSeen(rows_done=0, awaited=4):
            claims.done = frozenset({0, 1})
        elif event == OthersSeen(rows_done=0, awaited=2):
            claims.is_over = True

    stage.on_event = follow
    stage.run(claims=claims)

    assert stage.done == list(range(2, 12))
    assert stage.starts == [0, 1]


@pytest.mark.case(3)
def test_a_worker_that_dies_is_replaced_on_its_core_and_its_shards_are_done_again(stage):
    def do(index):
        time.sleep(0.05)
        return die() if index == 2 and stage.count("shard-2") == 1 else None

    stage.run(do=do)

    assert stage.done == list(range(12))
    assert stage.count("shard-2") == 2
    assert sorted(stage.starts) in ([0, 0, 1], [0, 1, 1])


def test_a_shard_that_kills_every_worker_stops_the_job_after_three_attempts(stage):
    with pytest.raises(WorkerFailed, match=r"(?s)shard 3.*SIGKILL.*memory") as stopped:
        stage.run(do=lambda index: die() if index == 3 else None, cores=CORES[:1])

    assert stopped.value.exit_code == 75
    assert stage.count("shard-3") == MAX_ATTEMPTS


def test_a_death_by_exit_code_is_named(stage):
    with pytest.raises(WorkerFailed, match="exit code 9"):
        stage.run(do=lambda _: os._exit(9), cores=CORES[:1], shards=SHARDS[:1])


@pytest.mark.case(44)
def test_a_worker_that_cannot_open_its_runner_stops_the_job_with_the_cause_at_once(stage):
    broken = WorkerBroken(failure_of(ModelError, "/models/x: cannot load it"))

    with pytest.raises(ModelError, match="/models/x: cannot load it") as stopped:
        stage.run(start=lambda _: broken)

    assert stopped.value.exit_code == 78
    assert stage.starts == [0, 1]
    assert stage.done == []


@pytest.mark.case(44)
def test_three_failed_starts_on_the_only_core_stop_the_job(stage):
    broken = WorkerBroken(failure_of(WorkerFailed, "the core is busy"))

    with pytest.raises(WorkerFailed, match="could not start: the core is busy") as stopped:
        stage.run(start=lambda _: broken, cores=CORES[:1])

    assert stopped.value.exit_code == 75
    assert stage.starts == [0] * MAX_FAILURES


@pytest.mark.case(44)
def test_workers_that_all_die_without_a_word_before_they_are_ready_will_do_so_again(stage):
    told = r"(?s)could not start: a worker died.*what the workers wrote"
    with pytest.raises(BackendError, match=told) as stopped:
        stage.run(start=lambda _: die(), cores=CORES)

    assert stopped.value.exit_code == 78
    assert sorted(stage.starts) == [0] * MAX_FAILURES + [1] * MAX_FAILURES


@pytest.mark.case(44)
def test_deaths_at_the_start_pass_where_a_worker_has_been_ready_before(stage):
    """Memory, or a device, that was there before may be there again."""

    def do(index):
        return ShardFailed(index, failure_of(DeviceFault)) if stage.count("start") == 1 else None

    with pytest.raises(WorkerFailed, match="could not start: a worker died") as stopped:
        stage.run(do=do, start=lambda _: die() if stage.count("start") > 1 else None, cores=CORES[:1])

    assert stopped.value.exit_code == 75


def test_a_start_that_works_at_the_third_time_is_good_enough(stage):
    stage.run(start=lambda _: die() if stage.count("start") < MAX_FAILURES else None, cores=CORES[:1])

    assert stage.done == list(range(12))


def test_a_shard_that_fails_is_given_out_again(stage):
    failed = failure_of(WorkerFailed)

    stage.run(do=lambda index: ShardFailed(2, failed) if index == 2 and stage.count("shard-2") < 3 else None)

    assert stage.done == list(range(12))
    assert stage.count("shard-2") == 3


def test_a_shard_that_cannot_be_done_stops_the_job_with_its_error(stage):
    failed = failure_of(SourceChanged, "/rows.parquet: the file is gone")

    with pytest.raises(SourceChanged, match=r"(?s)shard 0.*/rows\.parquet") as stopped:
        stage.run(do=lambda index: ShardFailed(0, failed) if index == 0 else None, cores=CORES[:1])

    assert stopped.value.exit_code == 65
    assert stage.count("shard-0") == 1
    assert len(stage.done) < supervise.AHEAD, "no shard is handed out after that"


def test_shards_in_hand_are_finished_before_an_error_is_raised(stage):
    failed = failure_of(OutputUnwritable)

    def do(index):
        if index == 0:
            return ShardFailed(0, failed)
        time.sleep(0.3)
        return None

    with pytest.raises(OutputUnwritable):
        stage.run(do=do)

    started = {index for index in range(1, 12) if stage.count(f"shard-{index}")}
    assert set(stage.done) == started


def test_a_bug_in_a_worker_comes_with_its_traceback(stage):
    failed = Failure("KeyError", "KeyError: 'x'", 70, True, "Traceback (most recent call last): here")

    with pytest.raises(BatchNeuronError, match=r"(?s)KeyError.*Traceback.*here.*report it") as stopped:
        stage.run(do=lambda _: ShardFailed(0, failed), shards=SHARDS[:1])

    assert stopped.value.exit_code == 70
    assert stage.count("shard-0") == MAX_ATTEMPTS


def test_stopping_hands_out_nothing_more_and_is_no_error(stage):
    stage.is_stopped = lambda: len(stage.done) >= 3

    stage.run(do=lambda _: time.sleep(0.05))

    started = [index for index in range(12) if stage.count(f"shard-{index}")]
    assert 3 <= len(started) <= 3 + IN_HAND < len(SHARDS)
    assert stage.done == started


def test_stopped_before_it_began_it_starts_nobody(stage):
    stage.is_stopped = lambda: True

    stage.run()

    assert stage.events == []


def test_a_worker_that_dies_while_the_run_stops_is_not_replaced(stage):
    stage.is_stopped = lambda: bool(stage.count("shard-*"))

    stage.run(do=lambda _: die())

    assert stage.starts == [0, 1]
    assert stage.done == []


def test_an_error_of_the_listener_stops_the_work_and_is_raised(stage):
    def complain(event):
        if isinstance(event, PartDone):
            raise TooManyRejected("too many", "out")

    stage.on_event = complain

    with pytest.raises(TooManyRejected):
        stage.run(do=lambda _: time.sleep(0.02))

    assert len(stage.done) <= IN_HAND


def test_an_interrupt_kills_the_workers(stage):
    def interrupt(event):
        if isinstance(event, PartDone):
            raise KeyboardInterrupt

    stage.on_event = interrupt
    began = time.monotonic()

    with pytest.raises(KeyboardInterrupt):
        stage.run(do=lambda index: time.sleep(30 if index else 0))

    assert time.monotonic() - began < 5


def test_an_error_that_is_not_built_from_a_text_becomes_the_nearest_that_is():
    rebuilt = rebuild_error(failure_of(SpecError, "2 problems"), "a worker could not start")

    assert isinstance(rebuilt, BatchNeuronError)
    assert "2 problems" in str(rebuilt)


def test_a_death_is_charged_to_one_shard_and_not_to_its_neighbours(stage):
    stage.run(do=lambda index: die() if index % 2 and stage.count(f"shard-{index}") == 1 else None)

    assert stage.done == list(range(12))
