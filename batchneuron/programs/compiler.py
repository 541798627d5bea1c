"""The process that compiles one shape: its own environment, its own log, and no life without its parent.

A compiler reads the environment when its framework is imported, and takes gigabytes that only the end of
a process gives back; several shapes at once are several processes.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import multiprocess
from multiprocess import resource_tracker

from batchneuron.artifacts.local import Artifact, build_artifact
from batchneuron.artifacts.locks import Lock
from batchneuron.artifacts.publish import make_scratch
from batchneuron.backends.backend import Backend, CompileRequest, Core
from batchneuron.errors import BatchNeuronError, CompileError
from batchneuron.workers.events import Failure
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.spawn import start
from batchneuron.workers.worker import attempt, own_process

_TAIL_LINES = 15
_GRACE_S = 5.0


@dataclass(slots=True)
class Compiler:
    """One artifact being compiled in a process of its own."""

    artifact: Artifact
    lock: Lock
    process: Any
    connection: Any
    scratch: Path
    started: float = field(default_factory=time.perf_counter)

    @property
    def log(self) -> Path:
        """What the compiler printed; stays when it fails."""
        return self.artifact.folder.with_name(f"{self.artifact.key}.log")

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.perf_counter() - self.started

    def finish(self) -> None:
        """Take its answer, for which it has to be ready.

        Raises:
            CompileError: it failed or was killed; names the log, and has the end of it.
            BatchNeuronError: whatever else went wrong in it.
        """
        try:
            answer: Failure | None = self.connection.recv()
            self.process.join(_GRACE_S)
            if answer is None:
                self.log.unlink(missing_ok=True)
                return
            raise self._explain(answer)
        except EOFError as error:
            self.process.join(_GRACE_S)
            raise self._explain_death() from error
        finally:
            self.close()

    def close(self) -> None:
        """End the process and all that it started, and leave nothing of its work."""
        if self.process.is_alive():
            self.log.unlink(missing_ok=True)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.join(_GRACE_S)
        self.connection.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.lock.release()

    def _explain(self, failure: Failure) -> BatchNeuronError:
        error = rebuild_error(failure, f"shape {self.artifact.shape}")
        if not isinstance(error, CompileError):
            return error
        return CompileError(
            f"{error.what}{self._tail(error.what)}", error.where, f"the whole log: {self.log}"
        )

    def _explain_death(self) -> CompileError:
        code = self.process.exitcode
        how = (
            f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        )
        what = "was killed" if code is not None and code < 0 else "ended"
        hint = f"the whole log: {self.log}"
        if code == -signal.SIGKILL:
            hint = (
                "most likely memory ran out: compile fewer at once (batchneuron compile --jobs 1), or on a "
                f"larger machine, and share the result through backend.artifacts; {hint}"
            )
        where = f"shape {self.artifact.shape}"
        return CompileError(f"the compiler {what} {how}{self._tail('')}", where, hint)

    def _tail(self, told: str) -> str:
        """The last lines of the log that have not been told, indented."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        except OSError:
            return ""
        return "".join(f"\n    {line}" for line in lines if line.strip() and line.strip() not in told)


def start_compiler(
    backend: Backend, request: CompileRequest, artifact: Artifact, environment: Mapping[str, str], lock: Lock
) -> Compiler:
    """A process that compiles an artifact and publishes it.

    Args:
        backend: goes to the process as it is, so it must survive pickling.
        request: the program.
        artifact: where it goes.
        environment: set in the process before it imports a framework.
        lock: the right to build it; released when the process has ended.
    """
    resource_tracker.ensure_running()  # starting it later would undo the process's signal mask
    context = multiprocess.get_context("spawn")
    scratch = make_scratch(artifact.folder)
    ours, theirs = context.Pipe(duplex=False)
    log = artifact.folder.with_name(f"{artifact.key}.log")
    process = context.Process(
        target=_main,
        args=(backend, request, artifact, (scratch, log, dict(environment)), theirs),
        daemon=True,
        name=f"batchneuron-compile-{artifact.shape}",
    )
    start(process)
    theirs.close()
    return Compiler(artifact, lock, process, ours, scratch)


def _main(
    backend: Backend,
    request: CompileRequest,
    artifact: Artifact,
    place: tuple[Path, Path, Mapping[str, str]],
    connection: Any,
) -> None:
    scratch, log, environment = place
    os.setpgid(0, 0)  # so that the compiler's own processes end with it
    _print_to(log)
    own_process(Core(0, (), environment))
    connection.send(attempt(lambda: build_artifact(backend, request, artifact, scratch)))


def _print_to(log: Path) -> None:
    """Send what this process and its children print to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)
