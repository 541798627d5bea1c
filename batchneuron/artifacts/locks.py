"""Two advisory locks of the kernel: one builder per entry, and no deletion of what is in use.

The kernel lets go of a lock when its holder dies, however it dies. Where a file system has no locks, an
entry may be compiled twice; it still appears whole, because that does not rest on locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from batchneuron.artifacts.entry import INDEX

_SUFFIX = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


@dataclass(slots=True)
class Lock:
    """A lock that is held until it is released, or the process ends."""

    descriptor: int
    path: Path
    removes: bool
    """Whether the file goes with the lock."""

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if self.descriptor < 0:
            return
        if self.removes:  # before letting go: who waits for it sees that its file has gone, and makes another
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)
        self.descriptor = -1

    def __del__(self) -> None:
        self.release()


def try_build_lock(folder: Path) -> Lock | None:
    """The right to build an entry, or to clear up after those who did; None: another has it.

    Raises:
        OSError: the cache cannot be written.
    """
    path = folder.with_name(folder.name + _SUFFIX)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            os.truncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return Lock(descriptor, path, removes=True)
        os.close(descriptor)


def tell_builder(folder: Path) -> str:
    """Who builds an entry: `process 12 on host`."""
    try:
        return folder.with_name(folder.name + _SUFFIX).read_text() or "another process"
    except OSError:
        return "another process"


def hold_entry(folder: Path) -> Lock | None:
    """A hold on an entry: while it lasts nobody deletes it. None: there is no entry."""
    path = folder / INDEX
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    _flock(descriptor, fcntl.LOCK_SH)
    if _is_at(descriptor, path):
        return Lock(descriptor, path, removes=False)
    os.close(descriptor)
    return None


def try_claim_entry(folder: Path) -> Lock | None:
    """The right to delete an entry; None: it is in use, or not there."""
    path = folder / INDEX
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    if _flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) and _is_at(descriptor, path):
        return Lock(descriptor, path, removes=False)
    os.close(descriptor)
    return None


def _flock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False
