"""Files as a `Source`: which format they have, and the format put to work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Literal, Protocol

import pyarrow as pa

from batchneuron.errors import DataError, SourceNotFound, SourceUnreadable
from batchneuron.sources.arrow import ArrowFormat
from batchneuron.sources.csv import CsvFormat
from batchneuron.sources.drift import find_drifts
from batchneuron.sources.jsonl import JsonLinesFormat
from batchneuron.sources.listing import Found, expand
from batchneuron.sources.location import map_files, tell_versions, verify_unchanged
from batchneuron.sources.parquet import ParquetFormat
from batchneuron.sources.patience import Patience
from batchneuron.sources.reader import Cursor, SliceReader
from batchneuron.sources.scan import Scan
from batchneuron.sources.source import FileId, FileInventory, Inventory, SkippedFile


class Format(Protocol):
    """One way to store rows in a file."""

    def scan(self, file: FileId) -> Scan:
        """The blocks of one file, and its columns.

        Raises:
            SourceUnreadable: it is damaged, or of another format.
        """

    def unify(self, scans: Sequence[tuple[FileId, Scan]]) -> pa.Schema:
        """The schema that all files can be read as."""

    def open_cursor(self, file: FileId, schema: pa.Schema, *, mends: bool = False) -> Cursor:
        """A cursor over those columns of `schema` that the file has.

        `mends`: U+FFFD stands for bytes of a text that are not UTF-8, which otherwise reject their row.
        """


FORMATS: dict[str, Format] = {
    "parquet": ParquetFormat(),
    "json": JsonLinesFormat(),
    "csv": CsvFormat(),
    "arrow": ArrowFormat(),
}
BUILDERS = {
    "parquet": "parquet",
    "json": "json",
    "jsonl": "json",
    "csv": "csv",
    "arrow": "arrow",
    "feather": "arrow",
}
"""Format names as a spec has them."""

_EXTENSIONS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_GZIPPED = ("json", "csv")


def format_of(name: str) -> str | None:
    """The format that a file's name tells, None if it tells none."""
    path = PurePosixPath(name.lower())
    if path.suffix != ".gz":
        return _EXTENSIONS.get(path.suffix)
    inner = _EXTENSIONS.get(PurePosixPath(path.stem).suffix)
    return inner if inner in _GZIPPED else None


@dataclass(frozen=True, slots=True)
class FileSource:
    """Files of one format; implements `Source`."""

    uris: tuple[str, ...]
    """Absolute paths or S3 URIs of files, folders and globs."""
    builder: str | None
    """The format, if the spec says it; otherwise the files' names do."""
    on_bad_file: Literal["fail", "skip"] = "fail"
    encoding_errors: Literal["reject", "replace"] = "reject"
    patience: Patience = field(default_factory=Patience)

    def inventory(self) -> Inventory:
        """Every file with its blocks, sorted by path, and the schema.

        Raises:
            SourceUnreadable: a file is damaged; with `on_bad_file: skip` only if all of them are.
        """
        files, name = self._find_files()
        scan_file = partial(_scan, FORMATS[name], skips=self.on_bad_file == "skip")
        scanned = list(zip(files, map_files(scan_file, files), strict=True))
        scans = [(file, found) for file, found in scanned if isinstance(found, Scan)]
        skipped = tuple(found for _, found in scanned if isinstance(found, SkippedFile))
        if not scans:
            first = skipped[0]
            what = f"none of {len(files)} files can be read; this one {first.reason}"
            raise SourceUnreadable(what, first.uri)
        schema = FORMATS[name].unify(scans)
        listed = tuple(FileInventory(file, scan.blocks) for file, scan in scans)
        return Inventory(listed, schema, skipped, find_drifts(scans, schema))

    def open_reader(self, schema: pa.Schema) -> SliceReader:
        """A reader of the columns in `schema`."""
        skips = self.on_bad_file == "skip"
        return SliceReader(schema, self, skips_damage=skips, patience=self.patience)

    def open_cursor(self, file: FileId, schema: pa.Schema) -> Cursor:
        """A cursor over those columns of `schema` that the file has.

        Raises:
            SourceChanged: it is not the file that was listed.
        """
        self.verify(file)
        name = self.builder or format_of(file.uri)
        if name is None:
            raise _unknown_format(file.uri)
        return FORMATS[name].open_cursor(file, schema, mends=self.encoding_errors == "replace")

    def verify(self, file: FileId) -> None:
        """Check that a file is the one that was listed.

        Raises:
            SourceChanged: it is not.
        """
        verify_unchanged(file)

    def _find_files(self) -> tuple[list[FileId], str]:
        """All files, sorted by path, and the format that they have."""
        files: dict[str, FileId] = {}
        formats: dict[str, str] = {}
        for uri in self.uris:
            for file, name in _tell_formats(expand(uri), uri, self.builder):
                files[file.uri] = file
                formats.setdefault(name, file.uri)
        if len(formats) > 1:
            seen = ", ".join(f"{name} ({uri})" for name, uri in sorted(formats.items()))
            hint = "choose one with a glob, like *.parquet"
            raise DataError(f"several formats: {seen}", " ".join(self.uris), hint)
        return tell_versions(files[uri] for uri in sorted(files)), next(iter(formats))


def _scan(kind: Format, file: FileId, *, skips: bool) -> Scan | SkippedFile:
    """What a file holds; one that is damaged is left out, where that is wished."""
    try:
        return kind.scan(file)
    except SourceUnreadable as error:
        if not skips:
            raise
        return SkippedFile(file.uri, error.what, error.rows)


def _tell_formats(found: Found, uri: str, builder: str | None) -> list[tuple[FileId, str]]:
    """Files with their format; of a folder only those that have the wanted one, or a known one."""
    if found.is_folder:
        pairs = [(file, format_of(file.uri)) for file in found.files]
        told = [(file, name) for file, name in pairs if name and name == (builder or name)]
        if not told:
            wanted = builder or "Parquet, JSON Lines, CSV or Arrow"
            raise SourceNotFound(f"the folder has no {wanted} files, but {_count_kinds(found)}", uri)
        return told
    told = []
    for file in found.files:
        name = builder or format_of(file.uri)
        if name is None:
            raise _unknown_format(file.uri)
        told.append((file, name))
    return told


def _count_kinds(found: Found) -> str:
    kinds = Counter(PurePosixPath(file.uri).suffix or "files without an extension" for file in found.files)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))


def _unknown_format(uri: str) -> DataError:
    return DataError(
        "the name does not tell the format", uri, "say it: path: json (or parquet, csv, arrow), data_files: …"
    )
