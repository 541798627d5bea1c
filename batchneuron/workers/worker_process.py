"""Worker processes of this machine: spawned, each with a pipe of its own.

A worker that is killed in the middle of a message harms no other, because no pipe is shared.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import multiprocess
from multiprocess import resource_tracker
from multiprocess.connection import wait

from batchneuron.backends.backend import Core
from batchneuron.errors import WorkerFailed
from batchneuron.workers import worker
from batchneuron.workers.case import Assignment
from batchneuron.workers.crew import Death, Hand
from batchneuron.workers.events import Event, Failure
from batchneuron.workers.pulse import PULSE_BYTES, Place, Pulse
from batchneuron.workers.spawn import start
from batchneuron.workers.work_order import WorkOrder

_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A process, the parent's end of its pipe, and its pulse."""

    process: Any
    connection: Any
    pulse: Pulse
    is_placed: bool = True

    def send(self, message: Assignment | None) -> None:
        """Write to the pipe."""
        try:
            self.connection.send(message)
        except OSError:
            return  # it died; its closed pipe says so at the next wait

    def receive(self) -> Sequence[Event] | None:
        """One event from the pipe; None: it is closed."""
        try:
            return (self.connection.recv(),)
        except (EOFError, OSError):
            return None

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()

    def count_beats(self) -> int:
        """From the shared memory."""
        return self.pulse.count_beats()

    def find_places(self) -> Sequence[Place]:
        """From the shared memory, which the dead leave as it was."""
        return self.pulse.read()

    def dump_stacks(self) -> None:
        """A signal, which is answered even while a library does not return."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, worker.DUMP_SIGNAL)

    def bury(self) -> Death:
        """Wait for its end; one that closed its pipe and lives on holds a core, and is killed."""
        self.process.join(_GRACE_S)
        self.process.kill()
        self.process.join(_GRACE_S)
        self.connection.close()
        return Death(_describe_end(self.process.exitcode))


class ProcessCrew:
    """Starts processes."""

    def __init__(self) -> None:
        resource_tracker.ensure_running()  # starting it later would undo the first worker's signal mask

    def find_cores(self) -> Sequence[Core]:
        """None: a machine does not grow."""
        return ()

    def start(self, order: WorkOrder, core: Core) -> WorkerProcess:
        """A spawned process."""
        context = multiprocess.get_context("spawn")
        ours, theirs = context.Pipe()
        cells = context.RawArray("b", PULSE_BYTES)
        process = context.Process(
            target=worker.main,
            args=(order, core, theirs, cells),
            daemon=True,
            name=f"batchneuron-{core.index}",
        )
        # Ctrl-C goes to the whole group; a worker inherits the mask and never sees it, even while it
        # still imports.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            start(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return WorkerProcess(process, ours, Pulse(cells))

    def wait(self, hands: Sequence[Hand], timeout_s: float) -> Sequence[Hand]:
        """Those whose pipe has something, or is closed."""
        by_connection = {each.connection: each for each in hands if isinstance(each, WorkerProcess)}
        return [by_connection[ready] for ready in wait(list(by_connection), timeout_s)]


def _describe_end(code: int | None) -> Failure:
    if code is None:
        how = "was killed, and does not end"
    else:
        how = f"died with {f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'}"
    is_killed = code == -signal.SIGKILL
    hint = "\n  → most likely memory ran out: try fewer workers" if is_killed else ""
    return Failure(
        error=WorkerFailed.__name__,
        message=f"a worker {how}{hint}",
        exit_code=WorkerFailed.exit_code,
        retryable=True,
        traceback="",
        code="out_of_memory" if is_killed else "worker_crash",
    )
