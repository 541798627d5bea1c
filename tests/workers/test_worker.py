"""The worker: its three stages side by side, its failures as plain values, and its end with its parent's."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

import multiprocess
import pytest

from batchneuron.backends.backend import Core
from batchneuron.backends.machine import list_cpus
from batchneuron.errors import ModelError, SourceChanged, WorkerFailed
from batchneuron.planning.plan import Shard
from batchneuron.workers import worker
from batchneuron.workers.case import Assignment
from batchneuron.workers.events import (
    BatchDone,
    PartDone,
    ShardFailed,
    StageSeconds,
    WorkerBroken,
    WorkerReady,
)
from batchneuron.workers.pulse import Pulse

FORK = multiprocess.get_context("fork")
STAGE_S = 0.1


def shards(count):
    return [Shard(index, index, ()) for index in range(count)]


class FakeRunner:
    """Three stages that take a moment each, note when they ran, and fail where they are told to."""

    def __init__(self, failing=(), **takes_s):
        self.pulse = Pulse()
        self.failing = set(failing)
        self.takes_s = takes_s
        self.times = {}

    def _stage(self, name, shard):
        began = time.monotonic()
        time.sleep(self.takes_s.get(name, 0.0))
        self.times[name, shard.index] = (began, time.monotonic())
        if (name, shard.index) in self.failing:
            raise SourceChanged("the file is gone", "/rows.parquet")
        return shard

    def encode(self, shard, case):
        return self._stage("encode", shard)

    def execute(self, shard):
        return self._stage("execute", shard)

    def finish(self, shard):
        self._stage("finish", shard)
        return PartDone(shard.index, 1, 0, 0, 1, 1, 1, "", True, StageSeconds(0, 0, 0))

    def overlaps(self, one, other):
        (began, ended), (other_began, other_ended) = self.times[one], self.times[other]
        return min(ended, other_ended) - max(began, other_began) > STAGE_S / 2


def run_through(runner, given):
    """What a worker sends that has all its shards in the inbox from the start."""
    inbox, sent = queue.SimpleQueue(), []
    for shard in given:
        inbox.put(Assignment(shard))
    inbox.put(None)
    worker.run_shards(runner, inbox, sent.append)
    return sent


def feed_as_a_supervisor_does(runner, given):
    """What a worker sends that never has more than two shards in its hands."""
    inbox, sent, left = queue.SimpleQueue(), [], list(given)

    def send(event):
        sent.append(event)
        inbox.put(Assignment(left.pop(0)) if left else None)

    for _ in range(2):
        inbox.put(Assignment(left.pop(0)))
    worker.run_shards(runner, inbox, send)
    return sent


def test_every_shard_is_answered_once_and_in_order():
    sent = run_through(FakeRunner(), shards(9))

    assert [event.shard for event in sent] == list(range(9))


def test_without_shards_it_ends():
    assert run_through(FakeRunner(), []) == []


@pytest.mark.parametrize("stage", ["encode", "execute", "finish"])
def test_a_shard_that_fails_in_any_stage_is_reported_and_the_others_go_on(stage):
    sent = run_through(FakeRunner(failing=[(stage, 1)]), shards(4))

    assert [type(event) for event in sent] == [PartDone, ShardFailed, PartDone, PartDone]
    failure = sent[1].failure
    assert (sent[1].shard, failure.error, failure.exit_code, failure.retryable) == (
        1,
        "SourceChanged",
        65,
        False,
    )
    assert failure.message == "/rows.parquet: the file is gone"


def test_the_next_shard_is_encoded_while_the_device_works():
    runner = FakeRunner(encode=STAGE_S, execute=STAGE_S)

    feed_as_a_supervisor_does(runner, shards(6))

    assert all(runner.overlaps(("encode", index), ("execute", index - 1)) for index in (2, 3, 4))


def test_the_last_shard_is_committed_while_the_device_works():
    runner = FakeRunner(execute=STAGE_S, finish=STAGE_S)

    feed_as_a_supervisor_does(runner, shards(5))

    assert all(runner.overlaps(("finish", index - 1), ("execute", index)) for index in (1, 3))


def test_an_error_of_ours_keeps_its_kind_and_policy():
    failure = worker.describe_failure(WorkerFailed("the disk gave an I/O error", "/out"))

    assert (failure.error, failure.exit_code, failure.retryable) == ("WorkerFailed", 75, True)
    assert failure.message == "/out: the disk gave an I/O error"


def test_any_other_exception_is_a_bug_that_is_worth_a_second_try():
    failure = worker.attempt(lambda: {}["missing"])

    assert (failure.error, failure.exit_code, failure.retryable) == ("KeyError", 70, True)
    assert failure.message == "KeyError: 'missing'"
    assert "test_worker.py" in failure.traceback


class Panic(BaseException):
    """As a panic in Rust: no `Exception`."""


@pytest.mark.parametrize("stage", ["encode", "execute", "finish"])
def test_a_panic_is_a_failure_of_its_shard_like_any_other(stage):
    runner = FakeRunner()
    calm = getattr(runner, stage)

    def panic(shard, *case):
        if shard.index == 1:
            raise Panic("called `Option::unwrap()` on a `None` value")
        return calm(shard, *case)

    setattr(runner, stage, panic)

    sent = run_through(runner, shards(3))

    assert [type(event) for event in sent] == [PartDone, ShardFailed, PartDone]
    failure = sent[1].failure
    assert (failure.code, failure.retryable) == ("worker_crash", True)
    assert failure.message.startswith("Panic: called `Option::unwrap()`")


def test_ctrl_c_is_no_failure():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.attempt(interrupt)


@pytest.mark.parametrize("stage", ["encode", "execute", "finish"])
def test_one_shard_is_done_or_failed_in_the_calling_thread_too(stage):
    runner = FakeRunner(failing=[(stage, 1)])
    done, failed = (worker.run_one(runner, Assignment(shard)) for shard in shards(2))

    assert (type(done), type(failed)) == (PartDone, ShardFailed)
    assert failed.failure.error == "SourceChanged"


def in_child(function):
    """Start a forked process with a pipe to it: the process and our end."""
    ours, theirs = FORK.Pipe()

    def child():
        ours.close()  # a spawned worker would not have it
        function(theirs)

    process = FORK.Process(target=child, daemon=True)
    process.start()
    theirs.close()
    return process, ours


def test_a_worker_is_pinned_to_its_core_and_deaf_to_ctrl_c():
    cpu = list_cpus()[-1]

    def child(connection):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        worker.own_process(Core(1, (cpu,), {"OMP_NUM_THREADS": "1"}))
        os.kill(os.getpid(), signal.SIGINT)
        connection.send((os.sched_getaffinity(0), os.environ["OMP_NUM_THREADS"]))
        connection.recv()

    process, ours = in_child(child)

    assert ours.recv() == ({cpu}, "1")
    process.terminate()
    process.join(5)
    assert process.exitcode == -signal.SIGTERM


def run_main(monkeypatch, open_runner):
    """`worker.main` in a child, with another runner."""
    monkeypatch.setattr(worker, "open_runner", open_runner)
    core = Core(0, (list_cpus()[0],))
    return in_child(lambda connection: worker.main(None, core, connection))


def test_it_says_ready_takes_shards_and_ends_when_told(monkeypatch):
    def open_runner(_order, on_batch, _pulse):
        on_batch(17)
        return FakeRunner()

    process, ours = run_main(monkeypatch, open_runner)

    assert ours.recv() == BatchDone(17)
    assert isinstance(ours.recv(), WorkerReady)
    ours.send(Assignment(shards(1)[0]))
    assert ours.recv().shard == 0
    ours.send(None)
    process.join(5)
    assert process.exitcode == 0


@pytest.mark.parametrize(("is_exclusive", "code"), [(False, 0), (True, 17)])
def test_a_worker_ends_at_once_unless_it_has_a_device_to_let_go_of(is_exclusive, code, monkeypatch):
    monkeypatch.setattr(worker, "open_runner", lambda *_: FakeRunner())
    core = Core(0, (list_cpus()[0],), is_exclusive=is_exclusive)

    def child(connection):
        worker.main(None, core, connection)
        os._exit(17)  # stands for what Python does at the end of a process

    process, ours = in_child(child)
    assert isinstance(ours.recv(), WorkerReady)
    ours.send(None)

    process.join(5)
    assert process.exitcode == code


def test_what_was_printed_is_not_lost_when_a_worker_ends_at_once():
    """Behind a pipe both Python and C keep what is printed until there is more of it."""
    code = (
        "import ctypes\n"
        "from batchneuron.backends.backend import Core\n"
        "from batchneuron.workers.worker import leave\n"
        "print('python')\n"
        "ctypes.CDLL(None).puts(b'c')\n"
        "leave(Core(0))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert (done.returncode, sorted(done.stdout.split())) == (0, ["c", "python"])


def test_a_runner_that_cannot_be_opened_is_reported_and_the_process_ends(monkeypatch):
    def open_runner(_order, _on_batch, _pulse):
        raise ModelError("AutoModel cannot load it", "/models/x")

    process, ours = run_main(monkeypatch, open_runner)

    event = ours.recv()
    assert isinstance(event, WorkerBroken)
    assert event.failure.message == "/models/x: AutoModel cannot load it"
    with pytest.raises(EOFError):
        ours.recv()
    process.join(5)
    assert process.exitcode == 0


@pytest.mark.case(4)
@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_when_the_pipe_to_its_parent_is_closed(busy, monkeypatch):
    process, ours = run_main(monkeypatch, lambda *_: FakeRunner(execute=60 if busy else 0))
    assert isinstance(ours.recv(), WorkerReady)
    if busy:
        ours.send(Assignment(shards(1)[0]))
        time.sleep(0.1)

    ours.close()

    process.join(5)
    assert process.exitcode == 75


@pytest.mark.case(4)
def test_it_dies_with_its_parent_even_when_it_cannot_listen(monkeypatch):
    """The kernel's own signal: the pipe stays open here, in another process than the parent."""
    monkeypatch.setattr(worker, "open_runner", lambda *_: FakeRunner())

    def parent(connection):
        pid = os.fork()
        if pid == 0:
            worker.own_process(Core(0))
            connection.send(os.getpid())
            time.sleep(60)
        time.sleep(60)

    process, ours = in_child(parent)
    pid = ours.recv()

    process.kill()
    process.join(5)

    deadline = time.monotonic() + 5
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_three_threads_send_whole_events():
    ours, theirs = FORK.Pipe()
    send = worker.open_outbox(theirs)
    threads = [threading.Thread(target=lambda: [send(BatchDone(7)) for _ in range(200)]) for _ in range(3)]
    for thread in threads:
        thread.start()

    assert [ours.recv() for _ in range(600)] == [BatchDone(7)] * 600
    for thread in threads:
        thread.join()
