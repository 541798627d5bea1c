"""The supervisor and rows that kill: real processes that die, hang and are killed over a batch of 64."""

import os
import signal
import time

import pytest

from batchneuron.errors import BatchNeuronError, TooManyRejected, WorkerFailed
from batchneuron.planning.plan import Shard
from batchneuron.sources.source import FileId, Slice
from batchneuron.workers import supervise, watchdog
from batchneuron.workers.events import PartDone, RowIsolated, ShardFailed, WorkerLost
from batchneuron.workers.member import Member
from batchneuron.workers.pulse import COMPUTING, NOWHERE, Place
from batchneuron.workers.worker import describe_failure
from tests.supervised import CORES, die, failure_of

SIZE = 64
FILE = FileId("rows.parquet", 1, "1")
SHARDS = tuple(Shard(index, SIZE * index, (Slice(FILE, 0, SIZE, 0, 0),)) for index in range(4))


def crash():
    os.kill(os.getpid(), signal.SIGABRT)


class Batch:
    """What a worker does that computes a shard of one batch, in which some rows are poison."""

    def __init__(self, stage, poison, deed=crash):
        self.stage = stage
        self.poison = poison
        self.deed = deed

    def __call__(self, index):
        case = self.stage.case
        holes = {rejection.row for rejection in case.deadly}
        for lo, hi in (*case.ranges_of("execute"), (0, SIZE)):
            rows = [row for row in range(lo, hi) if row not in holes]
            row = rows[0] if len(rows) == 1 else -1
            place = Place(index, "execute", 0, lo, hi, SIZE, row)
            self.stage.pulse.mark(COMPUTING, place)
            if set(rows) & self.poison.get(index, set()):
                failed = self.deed()
                if failed is not None:
                    return ShardFailed(index, failed, place)
        self.stage.pulse.rest(COMPUTING)
        return None


def isolated(stage):
    return {(event.row, event.code) for event in stage.events if isinstance(event, RowIsolated)}


def count_lost(stage):
    return sum(isinstance(event, WorkerLost) for event in stage.events)


@pytest.mark.case(41)
@pytest.mark.parametrize(
    ("deed", "code", "most"),
    [
        (crash, "worker_crash", 4),
        (die, "out_of_memory", 5),
        (lambda: os._exit(3), "worker_crash", 4),
        (lambda: describe_failure(ValueError("odd")), "worker_crash", 4),
        (lambda: describe_failure(MemoryError("too much")), "out_of_memory", 5),
    ],
    ids=["abort", "kill", "exit", "exception", "MemoryError"],
)
def test_the_row_that_kills_is_found_and_its_shard_is_done(deed, code, most, stage):
    stage.run(do=Batch(stage, {1: {17}}, deed), shards=SHARDS, cores=CORES)

    assert stage.done == [0, 1, 2, 3]
    assert isolated(stage) == {(SIZE + 17, code)}
    assert count_lost(stage) <= most
    assert stage.retired == {}


@pytest.mark.case(41)
def test_several_rows_of_several_shards_are_found(stage):
    stage.run(do=Batch(stage, {0: {0, 1, 63}, 2: {30}}), shards=SHARDS, cores=CORES[:1])

    assert stage.done == [0, 1, 2, 3]
    assert {row for row, _ in isolated(stage)} == {0, 1, 63, 2 * SIZE + 30}


@pytest.mark.case(42)
@pytest.mark.parametrize("signal_number", [None, signal.SIGSTOP], ids=["sleeps", "stopped"])
def test_the_row_that_hangs_is_found(signal_number, stage, monkeypatch):
    monkeypatch.setattr(watchdog, "_DUMP_S", 0.05)
    monkeypatch.setattr(supervise, "_POLL_S", 0.05)

    def hang():
        os.kill(os.getpid(), signal_number) if signal_number else time.sleep(60)

    stage.run(do=Batch(stage, {1: {17}}, hang), shards=SHARDS, cores=CORES, hang_s=0.3)

    assert stage.done == [0, 1, 2, 3]
    assert isolated(stage) == {(SIZE + 17, "worker_hang")}


@pytest.mark.case(42)
def test_a_worker_that_hangs_once_is_replaced_and_nobody_is_suspected(stage, monkeypatch):
    monkeypatch.setattr(watchdog, "_DUMP_S", 0.05)
    monkeypatch.setattr(supervise, "_POLL_S", 0.05)

    stage.run(
        do=lambda index: time.sleep(60) if index == 2 and stage.count("shard-2") == 1 else None,
        shards=SHARDS,
        hang_s=0.3,
    )

    assert stage.done == [0, 1, 2, 3]
    assert isolated(stage) == set()
    assert [event.why for event in stage.events if isinstance(event, WorkerLost)] == [
        "a worker made no progress for 0.3 s"
    ]


@pytest.mark.case(42)
def test_a_worker_that_never_gets_ready_is_ended(stage, monkeypatch):
    monkeypatch.setattr(watchdog, "_DUMP_S", 0.05)
    monkeypatch.setattr(supervise, "_POLL_S", 0.05)
    monkeypatch.setattr(watchdog, "_PATIENT_S", 0.3)
    monkeypatch.setattr(watchdog, "SHORTEST_S", 0.1)

    stage.run(start=lambda _: time.sleep(60) if stage.count("start") == 1 else None, cores=CORES[:1])

    assert len(stage.done) == 12
    assert stage.starts == [0, 0]


@pytest.mark.case(43)
def test_after_a_kill_for_memory_a_core_gets_one_shard_at_a_time(stage):
    shards = tuple(Shard(index, index, ()) for index in range(30))
    held = []

    def note(event):
        if isinstance(event, PartDone):
            held.append(sum(len(worker.shards) for worker in stage.supervisor._workers))

    def do(index):
        return die() if index == 5 and stage.count("shard-5") == 1 else time.sleep(0.02)

    stage.on_event = note
    stage.run(do=do, shards=shards, cores=CORES[:1])

    assert len(stage.done) == 30
    assert max(held[:5]) == supervise.AHEAD - 1
    assert set(held[5:]) == {0}


@pytest.mark.case(41)
def test_a_whole_shard_of_poison_ends_the_job_with_the_rows_to_look_at(stage):
    with pytest.raises(TooManyRejected, match=r"(?s)shard 1 \(rows 64 to 128\).*SIGABRT") as stopped:
        stage.run(do=Batch(stage, {1: set(range(SIZE))}), shards=SHARDS, cores=CORES[:1])

    assert stopped.value.exit_code == 65
    assert stage.count("shard-1") < 20


def test_a_bug_that_every_row_meets_is_told_with_its_traceback(stage):
    bug = lambda: describe_failure(KeyError("x"))  # noqa: E731

    with pytest.raises(BatchNeuronError, match=r"(?s)KeyError.*report it") as stopped:
        stage.run(do=Batch(stage, {0: set(range(SIZE))}, bug), shards=SHARDS, cores=CORES[:1])

    assert stopped.value.exit_code == 70


def test_an_error_of_the_budget_stops_it_as_soon_as_a_row_is_found(stage):
    def complain(event):
        if isinstance(event, RowIsolated):
            raise TooManyRejected("too many", "out")

    stage.on_event = complain
    with pytest.raises(TooManyRejected):
        stage.run(do=Batch(stage, {1: {1, 40}}), shards=SHARDS, cores=CORES[:1])

    assert len(isolated(stage)) == 1


class Hand:
    """A worker that can only say where it is."""

    def __init__(self, *places):
        self._places = places

    def find_places(self):
        return self._places


@pytest.mark.parametrize(
    ("places", "accused"),
    [
        ([Place(2, "execute", 5, 0, 64, 64)], {2: Place(2, "execute", 5, 0, 64, 64)}),
        ([Place(3, "encode"), Place(2, "execute")], {3: NOWHERE, 2: NOWHERE}),
        ([], {1: NOWHERE}),
        ([Place(9, "finish")], {1: NOWHERE}),
    ],
    ids=["one at work", "two at work", "none at work", "one that is done"],
)
def test_a_death_is_laid_at_the_door_of_what_was_at_work(places, accused):
    worker = Member(Hand(*places), CORES[0], shards=list(SHARDS[1:]))

    assert worker.find_accused() == accused


def test_a_known_failure_of_the_device_is_never_laid_at_a_rows_door(stage):
    with pytest.raises(WorkerFailed, match="attempts"):
        stage.run(
            do=Batch(stage, {1: {17}}, lambda: failure_of(WorkerFailed, "the device is odd")),
            shards=SHARDS,
            cores=(*CORES, *CORES),
        )

    assert isolated(stage) == set()
