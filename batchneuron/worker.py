"""The worker's process: one core, one runner, shards until there are no more.

Three threads overlap the stages: one reads and tokenises the next shard, this one keeps the device
busy, one decodes and writes the last shard. The supervisor gives a worker three shards at most, so that
is what it holds in memory.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from batchneuron.backends.backend import Core
from batchneuron.errors import BatchNeuronError
from batchneuron.events import BatchDone, Event, Failure, PartDone, ShardFailed, WorkerBroken, WorkerReady
from batchneuron.plan import Shard
from batchneuron.runner import Encoded, Predicted, Runner, open_runner
from batchneuron.work_order import WorkOrder

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PARENT_IS_GONE = 75
# How long a thread may keep the GIL while another waits for it. A device answers within milliseconds, and
# with Python's 5 ms it would then stand still for as long again.
_SWITCH_S = 0.0005
_Result = TypeVar("_Result")
Inbox = queue.SimpleQueue[Shard | None]
Send = Callable[[Event], None]


def main(order: WorkOrder, core: Core, connection: Any) -> None:
    """Entry point of the process: `connection` brings shards, then None, and takes events."""
    own_process(core)
    inbox: Inbox = queue.SimpleQueue()
    send = open_outbox(connection)
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True, name="receive").start()
    started = time.perf_counter()
    runner = attempt(lambda: open_runner(order, lambda tokens: send(BatchDone(tokens))))
    if isinstance(runner, Failure):
        send(WorkerBroken(runner))
        return
    send(WorkerReady(time.perf_counter() - started))
    run_shards(runner, inbox, send)


def run_shards(runner: Runner, inbox: Inbox, send: Send) -> None:
    """Do shards until the inbox gives None, every one of them answered by PartDone or ShardFailed."""
    encoded: queue.Queue[tuple[Shard, Encoded | Failure] | None] = queue.Queue(maxsize=1)
    predicted: queue.Queue[tuple[Shard, Predicted | Failure] | None] = queue.Queue(maxsize=1)
    stages = [
        threading.Thread(target=_encode_all, args=(runner, inbox, encoded), name="encode"),
        threading.Thread(target=_finish_all, args=(runner, predicted, send), name="finish"),
    ]
    for stage in stages:
        stage.start()
    while (item := encoded.get()) is not None:
        predicted.put((item[0], _and_then(item[1], runner.execute)))
    predicted.put(None)
    for stage in stages:
        stage.join()


def _encode_all(
    runner: Runner, inbox: Inbox, encoded: queue.Queue[tuple[Shard, Encoded | Failure] | None]
) -> None:
    while (shard := inbox.get()) is not None:
        encoded.put((shard, attempt(_bind(runner.encode, shard))))
    encoded.put(None)


def _finish_all(
    runner: Runner, predicted: queue.Queue[tuple[Shard, Predicted | Failure] | None], send: Send
) -> None:
    while (item := predicted.get()) is not None:
        shard, done = item[0], _and_then(item[1], runner.finish)
        send(done if isinstance(done, PartDone) else ShardFailed(shard.index, done))


def _and_then(value: Any | Failure, stage: Callable[[Any], _Result]) -> _Result | Failure:
    return value if isinstance(value, Failure) else attempt(_bind(stage, value))


def _bind(stage: Callable[[Any], _Result], value: Any) -> Callable[[], _Result]:
    return lambda: stage(value)


def attempt(call: Callable[[], _Result]) -> _Result | Failure:
    """What the call returns, or its exception as plain values; the worker's one broad except."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # the worker's main: each failure becomes an event
        return describe_failure(error)


def describe_failure(error: Exception) -> Failure:
    """An exception as plain values; one that is not ours is a bug, worth a second try all the same."""
    known = isinstance(error, BatchNeuronError)
    return Failure(
        error=type(error).__name__,
        message=str(error) if known else f"{type(error).__name__}: {error}",
        exit_code=error.exit_code if isinstance(error, BatchNeuronError) else BatchNeuronError.exit_code,
        retryable=error.retryable if isinstance(error, BatchNeuronError) else True,
        traceback="".join(traceback.format_exception(error)),
        retires_core=isinstance(error, BatchNeuronError) and error.retires_core,
    )


def own_process(core: Core) -> None:
    """Make this process a worker: its core's environment and CPUs, and no life without its parent.

    Ctrl-C reaches the whole process group; the parent decides what it means, so it is ignored here. What a
    library prints goes to stderr: stdout holds results.
    """
    os.environ.update(core.environment)
    if core.cpus:
        os.sched_setaffinity(0, core.cpus)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.setswitchinterval(_SWITCH_S)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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
