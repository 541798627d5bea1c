"""System calls that fail, or kill, by `strace -e inject=…`: no code of the run takes part.

strace is attached to a child before it begins, so that only the run's own calls are counted, thread by
thread, and a start costs no interpreter.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchneuron.spec.sections import JobSpec
from tests.faults import forks
from tests.faults.forks import Ended, Files

KILL = "signal=SIGKILL"
_ATTACH_S = 20.0


@dataclass(frozen=True, slots=True)
class Call:
    """A system call of the run's first thread."""

    name: str
    n: int
    """From 1, among those of its name."""
    text: str


@dataclass(frozen=True, slots=True)
class Tampered:
    """A run some of whose calls were tampered with."""

    ended: Ended
    injected: tuple[str, ...]
    """Lines of strace's log."""


def list_calls(spec: JobSpec, files: Files, names: str, within: str) -> list[Call]:
    """The calls of a whole run that touch what has this in its path; the job must be fresh."""
    log = files.output.with_suffix(".strace")
    first, _ = _trace(spec, files, ("-y", "-e", f"trace={names}", "-o", str(log)))
    counts: Counter[str] = Counter()
    found: list[Call] = []
    for line in log.read_text().splitlines():
        match = re.match(rf"{first} +(\w+)\(", line)
        if match:
            counts[match[1]] += 1
            if within in line:
                found.append(Call(match[1], counts[match[1]], line))
    return found


def tamper(spec: JobSpec, files: Files, *injections: str) -> Tampered:
    """A run with these calls tampered with: `link,linkat:error=EPERM:when=2`."""
    log = files.output.with_suffix(".strace")
    names = ",".join(dict.fromkeys(name for text in injections for name in text.partition(":")[0].split(",")))
    words = [word for text in injections for word in ("-e", f"inject={text}")]
    _, ended = _trace(spec, files, ("-y", "-e", f"trace={names}", *words, "-o", str(log)))
    lines = log.read_text().splitlines()
    return Tampered(ended, tuple(line for line in lines if "INJECTED" in line or "killed by" in line))


def _trace(spec: JobSpec, files: Files, words: tuple[str, ...]) -> tuple[int, Ended]:
    """The first thread's id, and how the run came to its end."""
    ours, theirs = os.pipe()
    child = forks.start(spec, files, _wait_for(ours, theirs))
    os.close(ours)
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", *words, "-p", str(child)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _wait_for_tracer(child, tracer)
    finally:
        os.close(theirs)  # go
    ended = forks.wait(child, files)
    tracer.communicate(timeout=_ATTACH_S)
    return child, ended


def _wait_for(ours: int, theirs: int) -> Callable[[], None]:
    """In the child: until the parent closes the pipe."""

    def wait() -> None:
        os.close(theirs)
        os.read(ours, 1)
        os.close(ours)

    return wait


def _wait_for_tracer(child: int, tracer: subprocess.Popen[bytes]) -> None:
    status, deadline = Path(f"/proc/{child}/status"), time.monotonic() + _ATTACH_S
    while "TracerPid:\t0\n" in status.read_text():
        if tracer.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"strace did not attach: {tracer.communicate()[1].decode()}")
        time.sleep(0.001)
