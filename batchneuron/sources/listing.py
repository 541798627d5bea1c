"""Which files a path stands for: a file, a folder, or a glob, local or in S3.

Files come sorted by path, so that a row's ordinal depends on names alone. Names that start with `.`
or `_` are passed over unless asked for by that very character, as Spark, Hive and `datasets` do; it
is also what makes a run folder readable as an input. Run folders deeper down are left out, so that a
job whose output lies within its input does not read its own parts. Knows nothing of formats.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pyarrow import fs

from batchneuron.errors import SourceNotFound
from batchneuron.sources.location import S3, file_id, filesystem_of, reading, stat
from batchneuron.sources.source import FileId

_RUN, _DATA = "/.batchneuron/run.json", "data"  # ledger/run_names.py; what makes a run folder, and its rows


@dataclass(frozen=True, slots=True)
class Found:
    """The files that one path stands for."""

    files: tuple[FileId, ...]
    """Sorted by path."""
    is_folder: bool
    """Whether they were all that was in a folder, wanted or not."""


def expand(uri: str) -> Found:
    """The files behind an absolute path or URI.

    Raises:
        SourceNotFound: nothing is there, or a folder or a glob has no file.
    """
    info = stat(uri)
    if info.type == fs.FileType.File:
        return Found((file_id(info, uri),), is_folder=False)
    if info.type == fs.FileType.Directory:
        return Found(_list_folder(uri), is_folder=True)
    if is_glob(uri):
        return Found(_list_glob(uri), is_folder=False)
    raise SourceNotFound("no such file or folder", uri, _suggest(uri))


def is_glob(path: str) -> bool:
    """Whether `path` has a wildcard."""
    return not set("*?[").isdisjoint(path)


def _list_folder(uri: str) -> tuple[FileId, ...]:
    root = uri.rstrip("/")
    depth = len(_parts(root))
    below, left_out = _list_below(root, recursive=True)
    found = [file for file in below if not any(_is_hidden(name) for name in _parts(file.uri)[depth:])]
    if not found:
        raise SourceNotFound("the folder has no files", uri, _runs_hint(left_out))
    return tuple(found)


def _list_glob(pattern: str) -> tuple[FileId, ...]:
    parts = _parts(pattern)
    fixed = next(i for i, part in enumerate(parts) if is_glob(part))
    root = _join(pattern, parts[:fixed])
    if stat(root).type != fs.FileType.Directory:
        raise SourceNotFound("no such folder", root, _suggest(root))
    below, left_out = _list_below(root, recursive=fixed + 1 < len(parts) or "**" in parts)
    if _names_data(parts[fixed:]):
        below, left_out = sorted([*below, *left_out.files], key=lambda file: file.uri), _LeftOut()
    found = [file for file in below if _matches(_parts(file.uri)[fixed:], parts[fixed:])]
    if not found:
        raise SourceNotFound(
            "no file matches", pattern, _runs_hint(left_out) or _names_hint(root, parts[fixed])
        )
    return tuple(found)


def _names_data(patterns: list[str]) -> bool:
    """Whether a glob says by name that it wants the data of run folders: `*/data/*.parquet`."""
    return _DATA in patterns[:-1] and "**" not in patterns


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """Run folders below what is listed."""

    runs: tuple[str, ...] = ()
    files: tuple[FileId, ...] = ()
    """All that is in them."""


def _list_below(root: str, *, recursive: bool) -> tuple[list[FileId], _LeftOut]:
    """The files below a folder, hidden ones too, and those that are left out, since they are a run's."""
    system, path = filesystem_of(root)
    with reading(root, "a folder"):
        infos = system.get_file_info(fs.FileSelector(path, recursive=recursive))
    files = [file_id(info, root) for info in infos if info.type == fs.FileType.File]
    # The folder itself may be a run folder: then its data is what was asked for.
    found = sorted(file.uri.removesuffix(_RUN) for file in files if file.uri.endswith(_RUN))
    runs = [run for run in found if len(_parts(run)) > len(_parts(root))]
    within = tuple(f"{run}/" for run in runs)
    kept = [file for file in files if not within or not file.uri.startswith(within)]
    theirs = tuple(file for file in files if within and file.uri.startswith(within))
    return sorted(kept, key=lambda file: file.uri), _LeftOut(tuple(runs), theirs)


def _matches(names: list[str], patterns: list[str]) -> bool:
    """Whether path components match a glob's; `**` stands for any number of folders."""
    if not patterns or not names:
        return not patterns and not names
    head, rest = patterns[0], patterns[1:]
    if head == "**":
        if not rest:
            return not any(_is_hidden(name) for name in names)
        return _matches(names, rest) or (not _is_hidden(names[0]) and _matches(names[1:], patterns))
    if _is_hidden(names[0]) and not head.startswith(names[0][0]):
        return False
    return fnmatchcase(names[0], head) and _matches(names[1:], rest)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _parts(uri: str) -> list[str]:
    return [part for part in uri.removeprefix(S3).split("/") if part]


def _join(like: str, parts: list[str]) -> str:
    return (S3 if like.startswith(S3) else "/") + "/".join(parts)


def _runs_hint(left_out: _LeftOut) -> str:
    """How a run folder is read, where there is one and nothing else."""
    if not left_out.runs:
        return ""
    return f"run folders below it are left out; to read one, name it: {left_out.runs[0]}/data"


def _suggest(uri: str) -> str:
    """What is there instead: names near the first component that is missing."""
    if uri.startswith(S3):
        return "check the bucket, the prefix, and that the credentials may list them"
    path = Path(uri)
    while path != path.parent and not path.parent.is_dir():
        path = path.parent
    missing = "" if str(path) == uri else f"{path} is not there; "
    return missing + _names_hint(str(path.parent), path.name)


def _names_hint(folder: str, wanted: str) -> str:
    """`did you mean a, b?`, or what the folder has."""
    names = _names(folder)
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"{folder} has: {shown}" if names else f"{folder} is empty"


def _names(folder: str) -> list[str]:
    system, path = filesystem_of(folder)
    with reading(folder, "a folder"):
        infos: list[Any] = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(info.base_name for info in infos)
