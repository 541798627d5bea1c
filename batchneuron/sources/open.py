"""Which `Source` an `input` section asks for: files, or something for `datasets`."""

from __future__ import annotations

import re
from pathlib import Path

from pyarrow import fs

from batchneuron.errors import DataError, SourceNotFound
from batchneuron.sources.files import BUILDERS, FileSource, format_of
from batchneuron.sources.hub import open_hub, open_saved
from batchneuron.sources.listing import is_glob
from batchneuron.sources.location import absolute_uri, stat
from batchneuron.sources.source import Source
from batchneuron.spec.sections import InputSpec

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_ONLY_SPLIT = "train"
_SAVED_MARKS = ("dataset_dict.json", "state.json")


def open_source(spec: InputSpec) -> Source:
    """The source that `input` names; nothing is listed or loaded yet.

    A format name (parquet, json, csv, arrow) with data_files is files; so is any path or URI. A local
    folder of `save_to_disk`, a hub id, and the names of other builders go to `datasets`.

    Raises:
        SourceNotFound: a split that is not there, or a format name without data_files.
    """
    builder = BUILDERS.get(spec.path)
    if builder is not None and spec.data_files is not None:
        return _open_files(spec, _choose_files(spec), builder)
    if "://" in spec.path:
        return _open_files(spec, _below(spec, absolute_uri(spec.path)), None)
    uri = absolute_uri(spec.path)
    kind = stat(uri).type
    if kind == fs.FileType.Directory and spec.data_files is None and _is_saved(uri):
        return open_saved(uri, spec.split)
    if kind != fs.FileType.NotFound:
        return _open_files(spec, _below(spec, uri), None)
    if builder is not None:
        raise SourceNotFound(f"{spec.path} is a format, its files are missing", uri, "add input.data_files")
    if _looks_like_file(spec.path):
        return _open_files(spec, _below(spec, uri), None)
    return open_hub(spec)


def _open_files(spec: InputSpec, uris: list[str], builder: str | None) -> FileSource:
    if spec.name is not None or spec.revision is not None:
        hint = "they belong to datasets of the hub"
        raise DataError("input.name and input.revision mean nothing for files", spec.path, hint)
    return FileSource(tuple(uris), builder, spec.on_bad_file, spec.encoding_errors)


def _below(spec: InputSpec, uri: str) -> list[str]:
    """`uri`, or the data files in the folder that it is."""
    if spec.data_files is not None:
        return [_join(uri, name) for name in _choose_files(spec)]
    _check_split(spec.split, [_ONLY_SPLIT], spec.path)
    return [uri]


def _join(folder: str, name: str) -> str:
    is_absolute = name.startswith(("/", "~")) or "://" in name
    return absolute_uri(name) if is_absolute else f"{folder.rstrip('/')}/{name}"


def _choose_files(spec: InputSpec) -> list[str]:
    """The data files of the split; absolute where the path is a format name."""
    files = spec.data_files if isinstance(spec.data_files, dict) else {_ONLY_SPLIT: spec.data_files or []}
    _check_split(spec.split, list(files), "input.data_files")
    chosen = files[spec.split]
    names = [chosen] if isinstance(chosen, str) else chosen
    if not names:
        raise SourceNotFound(f"no files for split {spec.split!r}", "input.data_files")
    return [absolute_uri(name) for name in names] if spec.path in BUILDERS else names


def _check_split(split: str, splits: list[str], where: str) -> None:
    if split not in splits:
        hint = "name files by split: data_files: {" + split + ": …}"
        raise SourceNotFound(f"no split {split!r}, there is {', '.join(splits) or 'none'}", where, hint)


def _is_saved(folder: str) -> bool:
    """Whether `Dataset.save_to_disk` wrote this folder."""
    return any(Path(folder, name).is_file() for name in _SAVED_MARKS)


def _looks_like_file(path: str) -> bool:
    if is_glob(path) or format_of(path) is not None or path.startswith((".", "~", "/")):
        return True
    return _HUB_ID.fullmatch(path) is None
