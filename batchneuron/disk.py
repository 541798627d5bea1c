"""What an operating system error of a disk means to the user of a run folder."""

from __future__ import annotations

import errno
from pathlib import Path

from batchneuron.errors import DiskFailed, OutputForbidden, OutputUnfit, OutputUnwritable

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_OWN = "set output.path to a folder you own"
_UNFIT = {
    errno.EROFS: "mount it for writing, or set output.path to another place",
    errno.EMFILE: "allow more with `ulimit -n`, and run it again",
    errno.ENFILE: "end what else runs on this machine, and run it again",
}


def explain_disk_error(
    error: OSError, path: Path, need_bytes: int, doing: str = "write"
) -> OutputUnwritable | DiskFailed:
    """The error as the user should read it.

    After an I/O error the pages are gone and a second fsync would lie, so the whole file is written
    again: the shard is retried.
    """
    where, reason = str(path.parent), error.strerror or str(error)
    if error.errno in _FULL:
        need = f" (a part of up to {max(1, need_bytes >> 20)} MiB)" if need_bytes else ""
        return OutputUnwritable(f"the disk is full{need}", where, "free some space and run it again")
    if error.errno == errno.EIO:
        hint = "look at the disk, or write to another"
        return DiskFailed(f"I/O error, cannot {doing}: {error}", where, hint)
    if error.errno in _FORBIDDEN:
        return OutputForbidden(f"cannot {doing}: {reason}", where, _OWN)
    if error.errno in _UNFIT:
        return OutputUnfit(f"cannot {doing}: {reason}", where, _UNFIT[error.errno])
    return OutputUnwritable(f"cannot {doing}: {reason}", where, _OWN)
