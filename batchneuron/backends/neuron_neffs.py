"""Files of the native stack's NEFF cache: from the cache into an artifact, and from artifacts into a cache.

The cache is a tree (`ab/cd/KEY.neff`), an artifact is a flat folder, so that a file's place is part of its
name there. Keys are made of the graph, the flags and the compiler's version; what is in no artifact cannot
be taken for something that is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

_SUFFIX = ".neff"


def collect_neffs(cache: Path, folder: Path) -> int:
    """Copy the programs of a cache into an artifact's folder; gives their number."""
    programs = list(_iter_neffs(cache))
    for path in programs:
        shutil.copyfile(path, folder / quote(path.relative_to(cache).as_posix(), safe=""))
    return len(programs)


def link_neffs(folder: Path, cache: Path) -> None:
    """Put an artifact's programs into a cache, as links: a worker's cache costs no disk.

    Several processes may do so at once; what is there already and is the same stays.
    """
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        place = cache / unquote(path.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f".{os.getpid()}-{place.name}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(path.resolve())
        fresh.replace(place)


def list_compiled(cache: Path) -> list[str]:
    """Names of programs that were compiled into a cache, rather than linked into it."""
    return sorted(path.name for path in _iter_neffs(cache) if not path.is_symlink())


def _iter_neffs(cache: Path) -> Iterator[Path]:
    return (path for path in sorted(cache.rglob(f"*{_SUFFIX}")) if not path.name.startswith("."))
