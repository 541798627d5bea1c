"""The worker's process: one core, one runner, shards until there are no more.

Three threads overlap the stages: one reads and tokenises the next shard, this one keeps the device
busy, one decodes and writes the last shard. The supervisor gives a worker three shards at most, so that
is what it holds in memory.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from batchneuron.backends.backend import Core
from batchneuron.errors import BatchNeuronError
from batchneuron.planning.plan import Shard
from batchneuron.stages.runner import Encoded, Predicted, Runner, open_runner
from batchneuron.workers.case import Assignment
from batchneuron.workers.events import (
    BatchDone,
    Event,
    Failure,
    PartDone,
    ShardFailed,
    WorkerBroken,
    WorkerReady,
)
from batchneuron.workers.pulse import COMPUTING, FINISHING, READING, Pulse
from batchneuron.workers.work_order import WorkOrder

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PARENT_IS_GONE = 75
# How long a thread may keep the GIL while another waits for it. A device answers within milliseconds, and
# with Python's 5 ms it would then stand still for as long again.
_SWITCH_S = 0.0005
DUMP_SIGNAL = signal.SIGUSR1
"""Asks for the stack of every thread; answered even by a process that is stuck in a library."""
_Result = TypeVar("_Result")
_Made = TypeVar("_Made", covariant=True)
Inbox = queue.SimpleQueue[Assignment | None]
Send = Callable[[Event], None]


def main(order: WorkOrder, core: Core, connection: Any, cells: Any = None) -> None:
    """Entry point of the process: `connection` brings assignments, then None, and takes events.

    `cells` is the memory of its pulse.
    """
    own_process(core)
    inbox: Inbox = queue.SimpleQueue()
    send = open_outbox(connection)
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True, name="receive").start()
    started = time.perf_counter()
    runner = attempt(lambda: open_runner(order, lambda tokens: send(BatchDone(tokens)), Pulse(cells)))
    if isinstance(runner, Failure):
        send(WorkerBroken(runner))
        return
    send(WorkerReady(time.perf_counter() - started))
    run_shards(runner, inbox, send)
    leave(core)


def run_shards(runner: Runner, inbox: Inbox, send: Send) -> None:
    """Do shards until the inbox gives None, every one of them answered by PartDone or ShardFailed."""
    encoded: queue.Queue[tuple[Shard, Encoded | ShardFailed] | None] = queue.Queue(maxsize=1)
    predicted: queue.Queue[tuple[Shard, Predicted | ShardFailed] | None] = queue.Queue(maxsize=1)
    stages = [
        threading.Thread(target=_encode_all, args=(runner, inbox, encoded), name="encode"),
        threading.Thread(target=_finish_all, args=(runner, predicted, send), name="finish"),
    ]
    for stage in stages:
        stage.start()
    while (item := encoded.get()) is not None:
        shard, value = item
        predicted.put((shard, _do(_Stage(runner.pulse, COMPUTING, runner.execute), shard, value)))
    predicted.put(None)
    for stage in stages:
        stage.join()


def _encode_all(
    runner: Runner, inbox: Inbox, encoded: queue.Queue[tuple[Shard, Encoded | ShardFailed] | None]
) -> None:
    def encode(given: Assignment) -> Encoded:
        return runner.encode(given.shard, given.case)

    stage = _Stage(runner.pulse, READING, encode)
    while (given := inbox.get()) is not None:
        encoded.put((given.shard, _do(stage, given.shard, given)))
    encoded.put(None)


def _finish_all(
    runner: Runner, predicted: queue.Queue[tuple[Shard, Predicted | ShardFailed] | None], send: Send
) -> None:
    stage = _Stage(runner.pulse, FINISHING, runner.finish)
    while (item := predicted.get()) is not None:
        send(_do(stage, *item))


@dataclass(frozen=True, slots=True)
class _Stage(Generic[_Made]):
    """A stage, and the lane of the thread that does it."""

    pulse: Pulse
    lane: int
    run: Callable[[Any], _Made]


def run_one(runner: Runner, given: Assignment) -> PartDone | ShardFailed:
    """The whole way of one shard in the calling thread, which gives the same part."""
    pulse = runner.pulse
    read = _Stage(pulse, READING, lambda _: runner.encode(given.shard, given.case))
    encoded = _do(read, given.shard, given)
    predicted = _do(_Stage(pulse, COMPUTING, runner.execute), given.shard, encoded)
    return _do(_Stage(pulse, FINISHING, runner.finish), given.shard, predicted)


def _do(stage: _Stage[_Result], shard: Shard, value: Any) -> _Result | ShardFailed:
    """What the stage makes of a value; what has failed already stays so."""
    if isinstance(value, ShardFailed):
        return value
    done = attempt(lambda: stage.run(value))
    place = stage.pulse.rest(stage.lane)
    return ShardFailed(shard.index, done, place) if isinstance(done, Failure) else done


def attempt(
    call: Callable[[], _Result], *, passing: tuple[type[BatchNeuronError], ...] = ()
) -> _Result | Failure:
    """What the call returns, or its exception as plain values; the worker's one broad except.

    A panic in a library written in Rust is no `Exception` (pyo3: PanicException), and the thread that it ends
    would be waited for.

    Args:
        call: what is tried.
        passing: errors of ours that are raised as they are.
    """
    # A worker's process is deaf to an interrupt: it is the second Ctrl-C of `workers: 0`, or of planning.
    raised: tuple[type[BaseException], ...] = (KeyboardInterrupt, *passing)
    try:
        return call()
    except raised:
        raise
    except BaseException as error:  # noqa: BLE001  # the worker's main: each failure becomes an event
        return describe_failure(error)


def describe_failure(error: BaseException) -> Failure:
    """An exception as plain values; one that is not ours is a bug, worth a second try all the same."""
    known = isinstance(error, BatchNeuronError)
    return Failure(
        error=type(error).__name__,
        message=str(error) if known else f"{type(error).__name__}: {error}",
        exit_code=error.exit_code if isinstance(error, BatchNeuronError) else BatchNeuronError.exit_code,
        retryable=error.retryable if isinstance(error, BatchNeuronError) else True,
        traceback="".join(traceback.format_exception(error)),
        retires_core=isinstance(error, BatchNeuronError) and error.retires_core,
        code="" if known else "out_of_memory" if isinstance(error, MemoryError) else "worker_crash",
    )


def own_process(core: Core) -> None:
    """Make this process a worker: its core's environment and CPUs, and no life without its parent.

    Ctrl-C reaches the whole process group; the parent decides what it means, so it is ignored here. What a
    library prints goes to stderr: stdout holds results. There too goes where every thread stands, when the
    process crashes and when its supervisor asks.
    """
    take_core(core)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    register_dump()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave(core: Core) -> None:
    """End the process, at once where no device has to be let go of; everything must have been sent.

    Python and its libraries take a quarter of a second to free memory that the kernel takes back anyway, and
    the command waits for its last worker.
    """
    if not core.is_exclusive:
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)  # what libraries in C have printed
        os._exit(0)


def take_core(core: Core) -> None:
    """Give this thread, and those that it starts, the core's CPUs, and the process the core's environment."""
    os.environ.update(core.environment)
    if core.cpus:
        os.sched_setaffinity(0, core.cpus)
    sys.setswitchinterval(_SWITCH_S)


def register_dump() -> None:
    """Let the process write its threads' stacks to stderr: when it crashes, and when it is asked."""
    faulthandler.enable()
    faulthandler.register(DUMP_SIGNAL)


def open_outbox(connection: Any) -> Send:
    """A function that sends events; three threads use it."""
    lock = threading.Lock()

    def send(event: Event) -> None:
        with lock:
            try:
                connection.send(event)
            except OSError:
                os._exit(_PARENT_IS_GONE)

    return send


def _receive(connection: Any, inbox: Inbox) -> None:
    """Move what the parent sends into the inbox; end the process when the parent is gone."""
    while True:
        try:
            shard = connection.recv()
        except (EOFError, OSError):
            os._exit(_PARENT_IS_GONE)
        inbox.put(shard)
        if shard is None:
            return
