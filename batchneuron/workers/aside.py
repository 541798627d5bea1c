"""Aside: one call in a process of its own, as if a worker made it, while the parent waits.

For what needs a device or a framework before there are workers: the parent imports neither.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import multiprocess

from batchneuron.backends.backend import Core
from batchneuron.errors import WorkerFailed
from batchneuron.workers.events import Failure
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.worker import attempt, own_process

_Result = TypeVar("_Result")
_MAX_CORES = 3


class Aside(Protocol):
    """Somewhere that a call can be made."""

    def __call__(self, call: Callable[[], _Result], name: str, /) -> _Result:
        """What the call returns; `name` says what is done, for people."""


def call_aside(call: Callable[[], _Result], cores: Sequence[Core], name: str) -> _Result:
    """What the call returns.

    Args:
        call: a module's function with its arguments bound; it and its result must survive pickling.
        cores: where to make it, in a new process; the next one, and at most three, where one is busy or
            broken. None of them: in this process.
        name: what is done, for people: `calibration`.

    Raises:
        BatchNeuronError: whatever the call raises.
        WorkerFailed: the process died, on every core that was tried.
    """
    if not cores:
        return call()
    *others, last = cores[:_MAX_CORES]
    for core in others:
        with contextlib.suppress(WorkerFailed):
            return _call_on(call, core, name)
    return _call_on(call, last, name)


def _call_on(call: Callable[[], _Result], core: Core, name: str) -> _Result:
    context = multiprocess.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_main, args=(call, core, theirs), daemon=True, name=f"batchneuron-{name}"
    )
    process.start()
    theirs.close()
    try:
        result: _Result | Failure = ours.recv()
    except EOFError as error:
        raise WorkerFailed(f"the process of the {name} died", hint="run it again") from error
    finally:
        process.join()
    if isinstance(result, Failure):
        raise rebuild_error(result, name)
    return result


def _main(call: Callable[[], Any], core: Core, connection: Any) -> None:
    own_process(core)
    connection.send(attempt(call))
