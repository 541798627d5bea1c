"""The supervisor over workers that are a few lines each: real processes, forked, with nothing to load."""

import inspect
import os
import signal
import time
from pathlib import Path

import multiprocess
import pytest

from batchneuron import roster, supervise
from batchneuron.backends.backend import Core
from batchneuron.errors import (
    BatchNeuronError,
    CoreLost,
    DeviceFault,
    ModelError,
    OutputUnwritable,
    SourceChanged,
    SpecError,
    TooManyRejected,
    WorkerFailed,
)
from batchneuron.events import (
    CoreRetired,
    Failure,
    OthersSeen,
    PartDone,
    ShardFailed,
    StageSeconds,
    WorkerBroken,
    WorkerReady,
)
from batchneuron.plan import Shard
from batchneuron.roster import MAX_FAILURES
from batchneuron.supervise import MAX_ATTEMPTS, Supervisor, rebuild_error
from tests.test_handout import Others

SHARDS = tuple(Shard(index, index, ()) for index in range(12))
CORES = (Core(0), Core(1))
IN_HAND = supervise._AHEAD * len(CORES)


def part_of(index):
    return PartDone(index, 1, 0, 0, 1, 1, 1, "", True, StageSeconds(0, 0, 0))


def failure_of(error, message="it is so", retryable=None):
    retryable = error.retryable if retryable is None else retryable
    return Failure(error.__name__, message, error.exit_code, retryable, "Traceback: …", error.retires_core)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Forking:
    """A `multiprocess` context that forks, and remembers the cores it started workers on."""

    def __init__(self):
        self._context = multiprocess.get_context("fork")
        self.starts = []

    def Pipe(self):
        return self._context.Pipe()

    def Process(self, **named):
        self.starts.append(named["args"][1].index)
        return self._context.Process(**named)


class Stage:
    """Runs a supervisor over a scripted worker, and remembers what it heard and what was started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder
        self.events = []
        self.is_stopped = lambda: False
        self.on_event = lambda event: None
        context = Forking()
        self.starts = context.starts
        monkeypatch.setattr(roster, "PAUSES_S", (0.02, 0.04))
        monkeypatch.setattr(supervise.multiprocess, "get_context", lambda _: context)

    def mark(self, name: str) -> int:
        """Called in a worker: how many times something has happened now, in all processes."""
        while True:
            count = self.count(name) + 1
            try:
                (self._folder / f"{name}.{count}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return count

    def count(self, name: str) -> int:
        return len(list(self._folder.glob(f"{name}.*")))

    def run(self, do=lambda index: None, start=lambda core: None, shards=SHARDS, cores=CORES, claims=None):
        """Let workers call `start` once and `do` for each shard; what they return instead of None is sent."""

        takes_core = len(inspect.signature(do).parameters) == 2

        def main(_order, core, connection):
            self.mark("start")
            broken = start(core)
            if broken is not None:
                connection.send(broken)
                return
            connection.send(WorkerReady(0.0))
            while (shard := connection.recv()) is not None:
                self.mark(f"shard-{shard.index}")
                connection.send(
                    do(*((shard.index, core) if takes_core else (shard.index,))) or part_of(shard.index)
                )

        def listen(event):
            self.events.append(event)
            self.on_event(event)

        self._monkeypatch.setattr(supervise.worker, "main", main)
        Supervisor(None, cores, listen, lambda: self.is_stopped(), claims).run(shards)

    @property
    def done(self) -> list[int]:
        return sorted(event.shard for event in self.events if isinstance(event, PartDone))

    @property
    def retired(self) -> dict[int, str]:
        return {event.core: event.why for event in self.events if isinstance(event, CoreRetired)}


@pytest.fixture
def stage(monkeypatch, tmp_path):
    yield Stage(monkeypatch, tmp_path)
    assert multiprocess.active_children() == [], "a worker has outlived its supervisor"


def test_every_shard_is_done_once_by_workers_on_all_cores(stage):
    stage.run(do=lambda _: time.sleep(0.02))

    assert stage.done == list(range(12))
    assert [stage.count(f"shard-{index}") for index in range(12)] == [1] * 12
    assert stage.starts == [0, 1]


def test_no_more_workers_start_than_there_are_shards(stage):
    stage.run(shards=SHARDS[:1])

    assert stage.done == [0]
    assert stage.starts == [0]


def test_nobody_hoards_the_last_shards(stage):
    """A worker takes its next shard ahead only while there are enough for all."""
    began = time.monotonic()

    stage.run(do=lambda _: time.sleep(0.5), shards=SHARDS[:2])

    assert time.monotonic() - began < 0.95


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


def test_a_worker_that_cannot_open_its_runner_stops_the_job_with_the_cause_at_once(stage):
    broken = WorkerBroken(failure_of(ModelError, "/models/x: cannot load it"))

    with pytest.raises(ModelError, match="/models/x: cannot load it") as stopped:
        stage.run(start=lambda _: broken)

    assert stopped.value.exit_code == 78
    assert stage.starts == [0, 1]
    assert stage.done == []


@pytest.mark.parametrize("end", ["dies", "is broken"])
def test_three_failed_starts_on_the_only_core_stop_the_job(end, stage):
    broken = WorkerBroken(failure_of(WorkerFailed, "the core is busy"))

    with pytest.raises(
        WorkerFailed, match="could not start: " + ("the core" if end == "is broken" else "a worker died")
    ):
        stage.run(start=lambda _: broken if end == "is broken" else die(), cores=CORES[:1])

    assert stage.starts == [0] * MAX_FAILURES


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
    assert len(stage.done) < supervise._AHEAD, "no shard is handed out after that"


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


EVERY = {"shards": SHARDS, "cores": tuple(Core(index) for index in range(4))}


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

    stage.run(start=lambda core: broken if core.index == 0 else None, **EVERY)

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
