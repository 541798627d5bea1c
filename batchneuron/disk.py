"""What an operating system error of a disk means to the user of a run folder."""

from __future__ import annotations

import errno
from pathlib import Path

from batchneuron.errors import OutputUnwritable, WorkerFailed

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain_disk_error(error: OSError, path: Path, need_bytes: int) -> OutputUnwritable | WorkerFailed:
    """The error as the user should read it.

    After an I/O error the pages are gone and a second fsync would lie, so the whole file is written
    again: the shard is retried.
    """
    if error.errno in _FULL:
        need = f" (a part of up to {max(1, need_bytes >> 20)} MiB)" if need_bytes else ""
        return OutputUnwritable(
            f"the disk is full{need}", str(path.parent), "free some space and run it again"
        )
    if error.errno == errno.EIO:
        return WorkerFailed(f"I/O error while writing: {error}", str(path.parent))
    return OutputUnwritable(f"cannot write: {error.strerror or error}", str(path.parent))
