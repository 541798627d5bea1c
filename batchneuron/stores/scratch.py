"""Scratch files: each named after the process that writes it, and removed once that process is dead."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

_DEAD = {"Z", "X"}  # proc(5): zombie, dead
_PID_NAMESPACE = Path("/proc/self/ns/pid")  # pid_namespaces(7)


def name_host() -> str:
    """What this process shares its process numbers with: `host@4026531836`; a container counts for itself.

    Two containers may have one name and one folder, and process 1 of either is not the other's.
    """
    return f"{socket.gethostname()}@{_PID_NAMESPACE.stat().st_ino}"


def name_scratch(folder: Path, attempt: str) -> Path:
    """A path in the folder that tells host and process."""
    return folder / f"{name_host()}.{os.getpid()}.{attempt}.inprogress"


def remove_left(folder: Path) -> None:
    """Remove what dead processes of this host left half-written."""
    for left in folder.glob("*.inprogress"):
        if is_left(left.name):
            left.unlink(missing_ok=True)


def is_left(name: str) -> bool:
    """Whether a scratch file's process is dead; of another host's nothing is known, so it is not."""
    host, _, rest = name.rpartition(".inprogress")[0].rpartition(".")[0].rpartition(".")
    return host == name_host() and rest.isdecimal() and not is_alive(int(rest))


def is_alive(pid: int) -> bool:
    """Whether this host has such a process.

    A dead one that nobody has waited for still takes signals (a container's first process may never wait):
    only its state tells.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in _DEAD
    return False
