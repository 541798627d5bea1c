"""Drift: columns that some files of a source have otherwise than the others, for a warning before the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from batchneuron.sources.conform import plain_schema
from batchneuron.sources.scan import Scan
from batchneuron.sources.source import Drift, FileId


def find_drifts(scans: Sequence[tuple[FileId, Scan]], unified: pa.Schema) -> tuple[Drift, ...]:
    """What each column is where it is not what all files are read as; of files that name their columns."""
    groups: dict[pa.Schema, list[tuple[FileId, int]]] = {}
    for file, scan in scans:
        if scan.schema is not None:
            groups.setdefault(plain_schema(scan.schema), []).append((file, scan.rows))
    if len(groups) < 2:
        return ()
    return tuple(drift for field in unified for drift in _find(field, groups.items()))


def _find(field: pa.Field, groups: Iterable[tuple[pa.Schema, list[tuple[FileId, int]]]]) -> Iterator[Drift]:
    """One for each other type of the column, and one where it is missing."""
    found: dict[str | None, list[tuple[FileId, int]]] = {}
    for schema, files in groups:
        kind = schema.field(field.name).type if field.name in schema.names else None
        if kind != field.type:
            found.setdefault(None if kind is None else str(kind), []).extend(files)
    for name, files in found.items():
        first = min(file.uri for file, _ in files)
        rows = sum(rows for _, rows in files)
        yield Drift(field.name, name, str(field.type), len(files), rows, first)
