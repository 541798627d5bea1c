"""Arrow IPC files (Feather is one) and streams: blocks are record batches.

A file has an index, so any batch can be reached; a stream is read from its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from batchneuron.errors import SourceUnreadable
from batchneuron.sources.batches import BatchCursor
from batchneuron.sources.conform import unify_scans
from batchneuron.sources.location import open_file, reading
from batchneuron.sources.scan import Scan
from batchneuron.sources.source import Block, FileId

_WHAT = "an Arrow file"
_FILE_MAGIC = b"ARROW1"
_OLD_FEATHER_MAGIC = b"FEA1"
_WIDE = 1 << 20
"""Bits, more than any fixed width: the rank of a column whose values vary in size."""


class ArrowFormat:
    """Arrow IPC, as a `Format`."""

    def scan(self, file: FileId) -> Scan:
        """Batches and columns."""
        with reading(file.uri, _WHAT), open_file(file.uri) as handle:
            schema = _open_reader(file, handle, []).schema
            batches = _iter_batches(_open_reader(file, handle, _narrowest(schema)), 0)
            counts = [batch.num_rows for batch in batches]
        blocks = []
        row = 0
        row_bytes = file.size_bytes / max(1, sum(counts))
        for number, rows in enumerate(counts):
            blocks.append(Block(row, rows, round(rows * row_bytes), number))
            row += rows
        return Scan(tuple(blocks), schema)

    def unify(self, scans: Sequence[tuple[FileId, Scan]]) -> pa.Schema:
        """The common schema of all files."""
        return unify_scans(scans)

    def open_cursor(self, file: FileId, schema: pa.Schema, *, mends: bool = False) -> BatchCursor:
        """A cursor over the columns of `schema` that the file has."""
        return BatchCursor(ArrowBatches(file, schema), mends=mends)


def _narrowest(schema: pa.Schema) -> list[int]:
    """The column that is cheapest to read: a batch tells its rows only when it is read."""
    return sorted(range(len(schema)), key=lambda index: _bit_width(schema.field(index).type))[:1]


def _bit_width(kind: pa.DataType) -> int:
    try:
        return int(kind.bit_width)
    except ValueError:
        return _WIDE


class ArrowBatches:
    """An open IPC file or stream as record batches; implements `BatchFile`."""

    what = _WHAT

    def __init__(self, file: FileId, schema: pa.Schema) -> None:
        self._file = file
        self.uri = file.uri
        with reading(file.uri, _WHAT):
            self._handle = open_file(file.uri)
            own = _open_reader(file, self._handle, []).schema.names
        self.names = [name for name in schema.names if name in own]
        # No column at all would mean every column; one is enough to count rows.
        self._columns = sorted(own.index(name) for name in self.names) or [0]

    def iter_batches(self, position: int) -> Iterator[Any]:
        """Batches from number `position` on; those of a stream before it are read and dropped."""
        return _iter_batches(_open_reader(self._file, self._handle, self._columns), position)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


def _open_reader(file: FileId, handle: Any, columns: list[int]) -> Any:
    """A reader of these columns by number, of all if there are none."""
    handle.seek(0)
    magic = handle.read(len(_FILE_MAGIC))
    handle.seek(0)
    if not magic:
        raise SourceUnreadable("is empty, and not an Arrow file", file.uri)
    if magic.startswith(_OLD_FEATHER_MAGIC):
        raise SourceUnreadable("is Feather version 1", file.uri, "write it again as version 2")
    open_ipc = ipc.open_file if magic == _FILE_MAGIC else ipc.open_stream
    return open_ipc(handle, options=ipc.IpcReadOptions(included_fields=columns, use_threads=False))


def _iter_batches(reader: Any, position: int) -> Iterator[Any]:
    if isinstance(reader, ipc.RecordBatchFileReader):
        return (reader.get_batch(number) for number in range(position, reader.num_record_batches))
    return islice(reader, position, None)
