"""Parquet files: blocks are row groups, known from the footers alone.

Rows are decoded a few thousand at a time, so a row group of any size costs little memory, and only
the pages of the wanted columns are fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron.sources.batches import BatchCursor
from batchneuron.sources.conform import unify_scans
from batchneuron.sources.location import open_file, reading
from batchneuron.sources.scan import Scan
from batchneuron.sources.source import Block, FileId

_WHAT = "a Parquet file"
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 2048
_BUFFER_BYTES = 1 << 20


class ParquetFormat:
    """Parquet, as a `Format`."""

    def scan(self, file: FileId) -> Scan:
        """Row groups and columns, from the footer."""
        with reading(file.uri, _WHAT), _open_parquet(file) as parquet:
            metadata = parquet.metadata
            blocks = []
            row = 0
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                blocks.append(Block(row, group.num_rows, group.total_byte_size, number))
                row += group.num_rows
            return Scan(tuple(blocks), parquet.schema_arrow)

    def unify(self, scans: Sequence[tuple[FileId, Scan]]) -> pa.Schema:
        """The common schema of all footers."""
        return unify_scans(scans)

    def open_cursor(self, file: FileId, schema: pa.Schema, *, mends: bool = False) -> BatchCursor:
        """A cursor over the columns of `schema` that the file has."""
        return BatchCursor(ParquetBatches(file, schema), mends=mends)


def _open_parquet(file: FileId) -> Any:
    # Without pre-buffering, and with a buffer, a column chunk is fetched page by page and not whole.
    return pq.ParquetFile(
        open_file(file.uri), pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
    )


class ParquetBatches:
    """An open Parquet file as record batches; implements `BatchFile`."""

    what = _WHAT

    def __init__(self, file: FileId, schema: pa.Schema) -> None:
        self.uri = file.uri
        with reading(file.uri, _WHAT):
            self._parquet = _open_parquet(file)
        own = set(self._parquet.schema_arrow.names)
        # A dotted name is a path to Parquet: `a.b` may bring a column `a` along, which is dropped later.
        self.names = [name for name in schema.names if name in own]
        self._batch_rows = _rows_per_batch(self._parquet.metadata)

    def iter_batches(self, position: int) -> Iterator[Any]:
        """Batches from row group number `position` on; none reaches over the end of its row group.

        So the rows of a batch are the same wherever reading began, and a damaged page costs the same rows.
        """
        for group in range(position, self._parquet.num_row_groups):
            # Decoding stays on this thread: the cores next door belong to the device's own threads.
            yield from self._parquet.iter_batches(
                self._batch_rows, row_groups=[group], columns=self.names, use_threads=False
            )

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()


def _rows_per_batch(metadata: Any) -> int:
    """How many rows are about `_BATCH_BYTES`: images are larger than numbers."""
    total = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    row_bytes: int = max(1, total // max(1, metadata.num_rows))
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // row_bytes))
