"""Publish: a scratch folder becomes an entry by one rename, after everything in it is on the disk.

A process that is killed at any moment leaves a scratch folder, which is never loaded; the next builder
of the same entry removes it, and so does `cache gc`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from batchneuron.artifacts.entry import find_flaw
from batchneuron.errors import BackendError

_SCRATCH = ".building-"
_BROKEN = ".broken-"
_OTHERS_WRITE = 0o022
_ROOT = 0


def prepare_cache(cache: Path) -> None:
    """Make the folder of all entries, for this user alone.

    Raises:
        BackendError: it cannot be made, is another user's, or others could put programs there.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not {cache.stat().st_uid, cache.lstat().st_uid} <= {os.geteuid(), _ROOT}:
            raise BackendError(
                "the artifact cache is another user's, and what is in it is run",
                str(cache),
                "set XDG_CACHE_HOME to a folder of yours; to share programs, use backend.artifacts",
            )
        if cache.stat().st_mode & _OTHERS_WRITE:
            raise BackendError(
                "others can write to the artifact cache, and what is in it is run",
                str(cache),
                f"chmod 700 {cache}; to share programs, name another folder under backend.artifacts",
            )
    except OSError as error:
        raise BackendError(f"cannot write the artifact cache: {error.strerror}", str(cache)) from error


def make_scratch(folder: Path) -> Path:
    """A new folder to build an entry in, beside the entry's own."""
    return Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{folder.name}-", dir=folder.parent))


def remove_leftovers(folder: Path) -> int:
    """Remove what killed builders of an entry left; gives their number. Needs the build lock."""
    left = [path for prefix in (_SCRATCH, _BROKEN) for path in folder.parent.glob(f"{prefix}{folder.name}-*")]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)


def list_leftover_keys(cache: Path) -> set[str]:
    """Keys of entries that somebody builds, or failed or died building."""
    names = [path.name for prefix in (_SCRATCH, _BROKEN) for path in cache.glob(f"{prefix}*-*")]
    files = [path.stem for pattern in ("*.lock", "*.log") for path in cache.glob(pattern)]
    return {*files, *(name.split("-")[1] for name in names)}


def publish(scratch: Path, folder: Path) -> bool:
    """Give a whole scratch folder its name: True, or False where an intact entry is there already.

    Raises:
        OSError: it could not be written down; nothing is published.
    """
    _sync_tree(scratch)
    aside = folder.with_name(f"{_BROKEN}{folder.name}-{scratch.name.rpartition('-')[2]}")
    if folder.exists():
        if find_flaw(folder) is None:
            return False
        folder.rename(aside)  # a rename onto a folder that is not empty fails
    scratch.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
