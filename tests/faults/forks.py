"""Runs as children of a process that has imported everything: each takes a twentieth of a second.

For programs (`steps.py`, `calls.py`), not for pytest itself: a process that forks should have one thread.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from batchneuron.errors import BatchNeuronError
from batchneuron.ledger import lease
from batchneuron.run import run_job
from batchneuron.spec.sections import JobSpec
from tests.faults import light  # no torch, no tokenizer

_BUG = 70


@dataclass(frozen=True, slots=True)
class Files:
    """What the children of one output write beside it."""

    output: Path

    @property
    def step(self) -> Path:
        """The failpoint at which the last child was."""
        return self.output.with_suffix(".step")

    @property
    def told(self) -> Path:
        """The last child's error."""
        return self.output.with_suffix(".told")

    @property
    def begun(self) -> Path:
        """A line for each shard that any child began."""
        return self.output.with_suffix(".begun")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child came to its end."""

    code: int
    """The command's exit code, or minus the signal."""
    step: str
    """Where its failpoint acted; empty: nowhere."""
    told: str
    """What the user reads."""


def start(spec: JobSpec, files: Files, prepare: Callable[[], None]) -> int:
    """Process id of a child that prepares, runs the job, and ends with the command's exit code."""
    for path in (files.step, files.told):
        path.unlink(missing_ok=True)
    child = os.fork()
    if child:
        return child
    code = _BUG
    try:
        _keep_small(files)
        prepare()
        run_job(spec)
        code = 0
    except BatchNeuronError as error:
        files.told.write_text(str(error))
        code = error.exit_code
    except BaseException:  # noqa: BLE001  # a child must not return into its parent's loop
        files.told.write_text(traceback.format_exc())
    os._exit(code)


def wait(child: int, files: Files) -> Ended:
    """Once it has ended."""
    _, status = os.waitpid(child, 0)
    step, told = (path.read_text() if path.exists() else "" for path in (files.step, files.told))
    return Ended(os.waitstatus_to_exitcode(status), step, told)


def wait_until_stopped(child: int) -> bool:
    """Whether it stands still, by SIGSTOP; False: it has ended."""
    _, status = os.waitpid(child, os.WUNTRACED)
    return os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSTOP


def _keep_small(files: Files) -> None:
    """One thread where there can be one; leases that live for a moment; begun shards are counted."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    lease.RENEW_S, lease.DEAD_AFTER_S = 0.05, 0.15
    lease._LOOK_EVERY_S = lease._LEAST_REST_S = 0.01
    light.note_begun(files.begun)
