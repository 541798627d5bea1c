"""Upkeep of a cache: what is in it, whether it is whole, and what may go."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchneuron.artifacts.entry import INDEX, Entry, find_flaw, list_facts, read_entry
from batchneuron.artifacts.locks import try_build_lock, try_claim_entry
from batchneuron.artifacts.publish import list_leftover_keys, remove_leftovers
from batchneuron.errors import BackendError


@dataclass(frozen=True, slots=True)
class Kept:
    """One folder of a cache."""

    key: str
    facts: Mapping[str, str]
    """task, model, shape, backend; empty where its artifact.json cannot be read."""
    size_bytes: int
    """On the disk, all files."""
    unused_s: float
    """Since a run last used it."""
    flaw: str | None
    """What is wrong with it, as far as was looked."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What `clear_cache` did."""

    deleted: tuple[Kept, ...]
    in_use: tuple[Kept, ...]
    """Would have gone, and are used by a run now."""
    leftovers: int
    """Scratch folders of processes that were killed."""


def list_kept(cache: Path, *, verifies: bool) -> tuple[Kept, ...]:
    """The entries of a cache, the last used first.

    `verifies`: hash every file; else only names and sizes are looked at.
    """
    found = [
        _look_at(folder, verifies=verifies)
        for folder in cache.glob("*")
        if folder.is_dir() and not folder.name.startswith(".")
    ]
    return tuple(sorted(found, key=lambda kept: kept.unused_s))


def delete_broken(cache: Path, broken: tuple[Kept, ...]) -> Cleared:
    """Delete entries that do not verify; those in use stay."""
    done = [(kept, _delete(cache / kept.key)) for kept in broken]
    return Cleared(
        tuple(kept for kept, is_gone in done if is_gone),
        tuple(kept for kept, is_gone in done if not is_gone),
        0,
    )


def clear_cache(cache: Path, older_than_s: float | None, keep_bytes: int | None) -> Cleared:
    """Delete what was not used for long, then the least recently used until the rest is small enough.

    Entries in use, and those being built, stay. What killed processes left always goes.
    """
    leftovers = _remove_leftovers(cache)
    deleted, in_use = [], []
    entries = list_kept(cache, verifies=False)
    total = sum(kept.size_bytes for kept in entries)
    for kept in reversed(entries):
        is_old = older_than_s is not None and kept.unused_s > older_than_s
        is_too_much = keep_bytes is not None and total > keep_bytes
        if not is_old and not is_too_much:
            continue
        if _delete(cache / kept.key):
            deleted.append(kept)
            total -= kept.size_bytes
        else:
            in_use.append(kept)
    return Cleared(tuple(deleted), tuple(in_use), leftovers)


def _look_at(folder: Path, *, verifies: bool) -> Kept:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    facts: Mapping[str, str] = {}
    try:
        entry = read_entry(folder)
        facts = list_facts(entry)
        flaw = find_flaw(folder) if verifies else _find_missing(folder, entry)
        used = (folder / INDEX).stat().st_mtime
    except (BackendError, OSError) as error:
        flaw = error.what if isinstance(error, BackendError) else str(error)
        used = folder.stat().st_mtime
    size = sum(stat.st_size for stat in files)
    return Kept(folder.name, facts, size, max(0.0, time.time() - used), flaw)


def _find_missing(folder: Path, entry: Entry) -> str | None:
    """What is wrong by names and sizes alone."""
    for name, record in entry.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is gone"
        if path.stat().st_size != record.size_bytes:
            return f"{name} has {path.stat().st_size} bytes, and was published with {record.size_bytes}"
    return None


def _delete(folder: Path) -> bool:
    """Delete an entry that nobody uses or builds: True, or False where somebody does."""
    lock = try_build_lock(folder)
    if lock is None:
        return False
    try:
        claim = try_claim_entry(folder)
        if claim is None and (folder / INDEX).exists():
            return False
        doomed = folder.with_name(f".broken-{folder.name}-{os.getpid()}")
        folder.rename(doomed)  # at once: nobody meets half of it
        shutil.rmtree(doomed, ignore_errors=True)
        folder.with_name(f"{folder.name}.log").unlink(missing_ok=True)
        return True
    finally:
        lock.release()


def _remove_leftovers(cache: Path) -> int:
    removed = 0
    for key in list_leftover_keys(cache):
        lock = try_build_lock(cache / key)
        if lock is not None:
            removed += remove_leftovers(cache / key)
            (cache / f"{key}.log").unlink(missing_ok=True)
            lock.release()
    return removed
