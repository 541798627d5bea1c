"""A place in a sequence of record batches: what the cursors of Parquet and Arrow files have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from batchneuron.sources.location import reading
from batchneuron.sources.mending import mend_columns
from batchneuron.sources.source import ShardRows


class BatchFile(Protocol):
    """An open file of record batches."""

    uri: str
    what: str
    """What the file should be, for messages: `a Parquet file`."""
    names: list[str]
    """Columns to give."""

    def iter_batches(self, position: int) -> Iterator[Any]:
        """Record batches from a block on, with these columns at least; earlier iterators become void."""

    def close(self) -> None:
        """Close the file."""


class BatchCursor:
    """A place in a file of record batches; implements `Cursor`."""

    def __init__(self, file: BatchFile, *, mends: bool) -> None:
        self._file = file
        self._mends = mends
        self.row = 0
        self._batches: Iterator[Any] | None = None
        self._rest: Any = None

    def jump(self, row: int, position: int, line: int = 0) -> None:
        """Go to the first row of block number `position`."""
        self.row = row
        self._rest = None
        with reading(self._file.uri, self._file.what):
            self._batches = self._file.iter_batches(position)

    def skip(self, rows: int) -> None:
        """Read rows and drop them, a batch at a time."""
        goal = self.row + rows
        while self.row < goal and self.take(goal - self.row).table.num_rows:
            pass

    def take(self, rows: int) -> ShardRows:
        """The next rows, up to the end of the batch at hand."""
        if self._rest is None:
            self._rest = self._next_batch()
        if self._rest is None:
            return ShardRows(pa.table({}))
        batch, rest = self._rest.slice(0, rows), self._rest.slice(rows)
        self._rest = rest if rest.num_rows else None
        self.row += batch.num_rows
        table = pa.Table.from_batches([batch]).select(self._file.names)
        return ShardRows(mend_columns(table) if self._mends else table)

    def close(self) -> None:
        """Close the file."""
        self._batches = self._rest = None
        self._file.close()

    def _next_batch(self) -> Any:
        if self._batches is None:
            self.jump(0, 0)
        assert self._batches is not None
        with reading(self._file.uri, self._file.what):
            return next((batch for batch in self._batches if batch.num_rows), None)
