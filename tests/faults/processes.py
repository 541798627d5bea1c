"""A `batchneuron run` as a process of its own, to be interrupted and killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.faults.harness import REPOSITORY, quickstart_text
from tests.faults.invariants import PLANTED

REAL = ("-m", "batchneuron")
LIGHT = (str(Path(__file__).with_name("light.py")),)
_POLL_S = 0.005


@dataclass(frozen=True)
class Job:
    """A job on disk, and the command that runs it and takes it up again."""

    folder: Path
    overrides: tuple[str, ...]
    program: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    count_parts: Callable[[], int] | None = None
    """How many there are, where the output is no folder."""

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def begun(self) -> Path:
        """A line for each shard that a worker of the light program began."""
        return self.folder / "begun.txt"

    @property
    def arguments(self) -> list[str]:
        spec = self.folder / "job.yaml"
        if not spec.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            spec.write_text(quickstart_text(self.output))
        return ["run", str(spec), *(word for each in self.overrides for word in ("--set", each))]

    def start(self, arguments: list[str] | None = None, **streams: Any) -> Command:
        words = [*self.program, *(arguments or self.arguments)]
        environment = {"LIGHT_BEGUN": str(self.begun), **PLANTED, **self.environment}
        count = self.count_parts or (lambda: _count_files(self.output / "data"))
        return Command(words, self.folder / "stderr.txt", count, environment, **streams)


class Command:
    """The command line at work, in a session of its own, so that its processes can be told from others."""

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        count_parts: Callable[[], int],
        environment: Mapping[str, str],
        **streams: Any,
    ) -> None:
        self.count_parts = count_parts
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                **{"stdout": subprocess.DEVNULL, "stderr": stderr, **streams},
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            )

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def list_processes(self) -> list[psutil.Process]:
        """Every process of the session but the first: workers, and what `multiprocess` starts beside."""
        return [found for pid in psutil.pids() if (found := self._find(pid)) is not None]

    def list_workers(self) -> list[psutil.Process]:
        return [found for found in self.list_processes() if "resource_tracker" not in _read_command(found)]

    def _find(self, pid: int) -> psutil.Process | None:
        try:
            if pid != self.process.pid and os.getsid(pid) == self.process.pid:
                found = psutil.Process(pid)
                return found if found.status() != psutil.STATUS_ZOMBIE else None
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
        return None

    def wait_for_parts(self, more: int, timeout_s: float) -> None:
        """Until there are so many more parts, the process has ended, or the time is over."""
        wanted, deadline = self.count_parts() + more, time.monotonic() + timeout_s
        while self.is_alive and self.count_parts() < wanted and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def signal_all(self, number: int) -> None:
        """To every process at once, as a machine stands still, or goes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self, timeout_s: float = 120) -> int:
        return self.process.wait(timeout_s)

    def require_alone(self, timeout_s: float = 30) -> None:
        """No process of the session outlives the first one."""
        deadline = time.monotonic() + timeout_s
        while left := self.list_processes():
            assert time.monotonic() < deadline, f"still alive after {timeout_s} s: {left}"
            time.sleep(0.05)


def _count_files(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _read_command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
