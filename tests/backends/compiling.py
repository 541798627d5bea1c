"""A backend whose compiler is a process worth waiting for: it keeps a journal, and fails as it is told."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batchneuron.backends.backend import BackendFacts, CompileNeeds, CompileRequest, Core
from batchneuron.errors import CompileError
from batchneuron.model import Model
from batchneuron.planning.shapes import Shape
from tests.backends.arithmetic import ArithmeticExecutable


@dataclass(frozen=True, slots=True)
class CompilingBackend:
    """Compiles to two files, one of them in a subfolder."""

    journal: Path
    """A line per compilation: shape, process, what SDK_MODE is."""
    target: str = "stone"
    versions: Mapping[str, str] = field(default_factory=lambda: {"chisel": "2"})
    wanted: Mapping[str, str] = field(default_factory=dict)
    """By shape: `fail`, `kill`, or seconds to take."""
    memory_bytes: int = 1
    needs_process: bool = True

    @property
    def facts(self) -> BackendFacts:
        return BackendFacts("compiling", self.target, "float32", self.versions, {}, 64, True)

    def list_cores(self) -> tuple[Core, ...]:
        return (Core(0),)

    def memory_per_worker_bytes(self, model: Model) -> int:
        return 1

    def compile_needs(self, model: Model) -> CompileNeeds | None:
        return CompileNeeds(self.memory_bytes, {"SDK_MODE": "compile"}) if self.needs_process else None

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        with self.journal.open("a") as journal:
            journal.write(f"{shape} {os.getpid()} {os.environ.get('SDK_MODE')}\n")
        (folder / "cache").mkdir()
        (folder / "cache" / "program.neff").write_bytes(bytes(range(256)))
        sys.stderr.write(f"chiselling {shape}\n")
        sys.stderr.flush()
        match self.wanted.get(str(shape), "0"):
            case "fail":
                raise CompileError("the chisel broke", str(shape))
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case seconds:
                time.sleep(float(seconds))
        (folder / "program.json").write_text(f"{shape} of {request.model.digest}")

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> ArithmeticExecutable:
        return ArithmeticExecutable(shape)


def read_journal(path: Path) -> list[list[str]]:
    """Shape, process and mode of each compilation, in order."""
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
