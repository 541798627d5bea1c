"""The supervisor's cores: lost, busy, tried again, given up."""

import time

import pytest

from batchneuron.backends.backend import Core
from batchneuron.errors import (
    CoreLost,
    DeviceFault,
)
from batchneuron.planning.plan import Shard
from batchneuron.workers import roster
from batchneuron.workers.events import (
    ShardFailed,
    WorkerBroken,
    WorkerReady,
)
from batchneuron.workers.isolate import MAX_ATTEMPTS
from batchneuron.workers.roster import MAX_FAILURES
from tests.supervised import CORES, SHARDS, failure_of

EVERY = {"shards": SHARDS, "cores": tuple(Core(index) for index in range(4))}


@pytest.mark.case(45)
def test_a_lost_core_gets_no_new_worker_and_its_shards_are_done_by_others(stage):
    def do(index, core):
        time.sleep(0.01)
        return ShardFailed(index, failure_of(CoreLost, "core 2 is broken")) if core.index == 2 else None

    stage.run(do=do, **EVERY)

    assert stage.done == list(range(12))
    assert sorted(stage.starts) == [0, 1, 2, 3]
    assert stage.retired == {2: "core 2 is broken"}


def test_a_core_that_is_lost_while_its_worker_starts_is_not_tried_again(stage):
    broken = WorkerBroken(failure_of(CoreLost, "core 0 is broken"))

    def start(core):
        if core.index == 0:
            stage.mark("broken")
            return broken
        return None

    def do(_index):
        while not stage.count("broken"):  # else the others may be done before core 0 has said a word
            time.sleep(0.01)
        time.sleep(0.02)

    stage.run(start=start, do=do, **EVERY)

    assert stage.done == list(range(12))
    assert stage.starts.count(0) == 1
    assert list(stage.retired) == [0]


def test_lost_cores_cost_a_shard_no_attempt(stage):
    """More cores are lost over the only shard than it has attempts."""
    cores = tuple(Core(index) for index in range(MAX_ATTEMPTS + 2))
    last = cores[-1].index

    stage.run(
        do=lambda index, core: None if core.index == last else ShardFailed(index, failure_of(CoreLost)),
        shards=SHARDS[:1],
        cores=cores,
    )

    assert stage.done == [0]
    assert sorted(stage.retired) == list(range(last))


@pytest.mark.case(45)
def test_when_no_core_is_left_the_job_stops_and_says_what_to_do(stage):
    with pytest.raises(CoreLost, match=r"(?s)no core is left: core \d was lost.*another instance") as stopped:
        stage.run(do=lambda index: ShardFailed(index, failure_of(CoreLost)))

    assert stopped.value.exit_code == 75
    assert sorted(stage.starts) == [0, 1]
    assert sorted(stage.retired) == [0, 1]


def test_a_device_fault_gets_a_fresh_worker_on_the_same_core(stage):
    def do(index):
        if index == 4 and stage.count("shard-4") == 1:
            return ShardFailed(4, failure_of(DeviceFault, "it timed out"))
        return None

    stage.run(do=do, cores=CORES[:1])

    assert stage.done == list(range(12))
    assert stage.starts == [0, 0]
    assert stage.retired == {}


def test_a_failure_that_is_charged_to_one_shard_is_not_charged_to_those_behind_it(stage):
    """A worker whose device has failed fails with all it holds; the first is charged."""
    starts = MAX_FAILURES - 1

    def do(index):
        return ShardFailed(index, failure_of(DeviceFault)) if stage.count("start") <= starts else None

    stage.run(do=do, cores=CORES[:1])

    assert stage.done == list(range(12))
    assert stage.starts == [0] * (starts + 1)


@pytest.mark.case(45)
def test_a_core_on_which_nothing_works_is_given_up_and_the_others_go_on(stage):
    def do(index, core):
        time.sleep(0.05)
        return ShardFailed(index, failure_of(DeviceFault, "it is odd")) if core.index == 1 else None

    shards = tuple(Shard(index, index, ()) for index in range(60))
    stage.run(do=do, shards=shards, cores=CORES)

    assert stage.done == list(range(60))
    assert stage.starts.count(1) == MAX_FAILURES
    assert stage.retired == {1: "it is odd"}


def test_a_busy_core_is_tried_again_and_then_given_up_while_the_others_work(stage):
    busy = WorkerBroken(failure_of(DeviceFault, "another process has the core"))

    stage.run(do=lambda _: time.sleep(0.05), start=lambda core: busy if core.index == 1 else None)

    assert stage.done == list(range(12))
    assert stage.starts.count(1) == MAX_FAILURES
    assert stage.retired == {1: "another process has the core"}


def test_a_core_that_is_busy_for_a_while_is_used_then(stage):
    busy = WorkerBroken(failure_of(DeviceFault, "another process has the core"))
    used = []
    stage.on_event = used.append

    stage.run(
        do=lambda _: time.sleep(0.05),
        start=lambda core: busy if core.index == 1 and stage.count("start") <= 2 else None,
    )

    assert stage.done == list(range(12))
    assert stage.starts.count(1) == 2
    assert sum(isinstance(event, WorkerReady) for event in used) == 2
    assert stage.retired == {}


@pytest.mark.case(44, 45)
def test_when_every_core_is_busy_the_job_stops_after_a_bounded_number_of_starts(stage):
    busy = WorkerBroken(failure_of(DeviceFault, "another process has the core"))

    with pytest.raises(
        DeviceFault, match=r"(?s)no core is left.*could not start: another process"
    ) as stopped:
        stage.run(start=lambda _: busy, **EVERY)

    assert stopped.value.exit_code == 75
    assert len(stage.starts) == 4 * MAX_FAILURES
    assert sorted(stage.retired) == [0, 1, 2, 3]


def test_a_core_in_reserve_takes_the_place_of_a_lost_one(stage):
    """Fewer shards than cores: the others wait, and one of them is started when it is needed."""
    stage.run(
        do=lambda index, core: ShardFailed(index, failure_of(CoreLost)) if core.index == 0 else None,
        shards=SHARDS[:1],
    )

    assert stage.done == [0]
    assert stage.starts == [0, 1]


def test_stopping_does_not_wait_for_a_core_that_rests(stage, monkeypatch):
    monkeypatch.setattr(roster, "PAUSES_S", (60.0, 60.0))
    busy = WorkerBroken(failure_of(DeviceFault))
    stage.is_stopped = lambda: stage.count("start") > 0

    stage.run(start=lambda _: busy, cores=CORES[:1])

    assert stage.starts == [0]
