"""Aside: one call in a process of its own, as if a worker made it, while the parent waits.

For what needs a device or a framework before there are workers: the parent imports neither.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import multiprocess

from batchneuron.backends.backend import Core
from batchneuron.errors import BatchNeuronError, WorkerFailed
from batchneuron.workers.events import Failure
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.spawn import start
from batchneuron.workers.worker import DUMP_SIGNAL, attempt, leave, own_process

_Result = TypeVar("_Result")
_MAX_CORES = 3
PATIENCE_S = 3600.0
"""What takes longer before there are workers stands still: a worker gets as much to load."""
_GRACE_S = 5.0  # to let go of the device, once its answer is there
_DUMP_S = 1.0  # to write a few stacks


class Aside(Protocol):
    """Somewhere that a call can be made."""

    def __call__(self, call: Callable[[], _Result], name: str, /) -> _Result:
        """What the call returns; `name` says what is done, for people."""


def call_aside(
    call: Callable[[], _Result], cores: Sequence[Core], name: str, limit_s: float | None = PATIENCE_S
) -> _Result:
    """What the call returns.

    Args:
        call: a module's function with its arguments bound; it and its result must survive pickling.
        cores: where to make it, in a new process; the next one, and at most three, where one is busy or
            broken. None of them: in this process.
        name: what is done, for people: `calibration`.
        limit_s: how long it may take; what hangs on one core would on another. None: for ever.

    Raises:
        BatchNeuronError: whatever the call raises; that very class for what is none of our errors.
        WorkerFailed: the process died on every core that was tried, or gave no answer on one.
    """
    if not cores:
        return _require(attempt(call, passing=(BatchNeuronError,)), name)
    *others, last = cores[:_MAX_CORES]
    try:
        for core in others:
            with contextlib.suppress(WorkerFailed):
                return _call_on(call, core, name, limit_s)
        return _call_on(call, last, name, limit_s)
    except TimeoutError as error:
        hint = "see where it stands, above; run it again"
        raise WorkerFailed(f"the process of the {name} gave no answer in {limit_s:g} s", hint=hint) from error


def _call_on(call: Callable[[], _Result], core: Core, name: str, limit_s: float | None) -> _Result:
    context = multiprocess.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_main, args=(call, core, theirs), daemon=True, name=f"batchneuron-{name}"
    )
    start(process)
    theirs.close()
    try:
        if not ours.poll(limit_s):
            _dump_stacks(process)
            raise TimeoutError
        result: _Result | Failure = ours.recv()
        process.join(_GRACE_S)
    except EOFError as error:
        raise WorkerFailed(f"the process of the {name} died", hint="run it again") from error
    finally:  # it ignores Ctrl-C, and a library that hangs does not even see the end of its parent's pipe
        process.kill()
        process.join()
        ours.close()
    return _require(result, name)


def _require(result: _Result | Failure, name: str) -> _Result:
    if isinstance(result, Failure):
        raise rebuild_error(result, name)
    return result


def _dump_stacks(process: Any) -> None:
    """Let it write to stderr where each of its threads stands."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, DUMP_SIGNAL)
        process.join(_DUMP_S)


def _main(call: Callable[[], Any], core: Core, connection: Any) -> None:
    own_process(core)
    connection.send(attempt(call))
    leave(core)
