"""A place in a text file: what the cursors of JSON Lines and CSV have in common.

The two differ in the grammar of their scanner and in how records become rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from batchneuron.sources import lines
from batchneuron.sources.lines import Records, RecordScanner
from batchneuron.sources.reader import join_rows
from batchneuron.sources.source import ShardRows


class Parser(Protocol):
    """Turns records into rows."""

    def parse(self, records: Records, row: int) -> ShardRows:
        """As many rows as there are records; `row` is the first one's number within the file."""

    def refuse(self, message: str) -> ShardRows:
        """One row of nulls, rejected with this message."""


class TextCursor:
    """A place in a text file; implements `Cursor`."""

    def __init__(self, uri: str, scanner: RecordScanner, parser: Parser) -> None:
        self._uri = uri
        self._scanner = scanner
        self._parser = parser
        self._pending: Records | None = None
        self.row = 0

    def jump(self, row: int, position: int, line: int) -> None:
        """Go to the record that starts at byte `position`."""
        self._pending = None
        self._scanner.seek(row, position, line)
        self.row = row

    def skip(self, rows: int) -> None:
        """Pass over records without parsing them."""
        while rows > 0 and (records := self._take_records(rows)) is not None:
            rows -= len(records)

    def take(self, rows: int) -> ShardRows:
        """The next rows, up to the end of the chunk at hand."""
        first = self.row
        records = self._take_records(rows)
        if records is None:
            return ShardRows(pa.table({}))
        pieces = [
            self._refuse_long(part, first + lo) if part.too_long[0] else self._parser.parse(part, first + lo)
            for lo, part in _split_long(records)
        ]
        made = join_rows(pieces, pieces[0].table.schema)
        return replace(made, lines=records.lines()) if records.line else made

    def _refuse_long(self, record: Records, row: int) -> ShardRows:
        (place,), size = record.name_places(row), int(record.stops[0] - record.starts[0])
        what = f"{size:,} bytes, and a record may have {lines.MAX_RECORD_BYTES:,}"
        return self._parser.refuse(f"{self._uri}: {place}: {what}")

    def close(self) -> None:
        """Close the file."""
        self._pending = None
        self._scanner.close()

    def _take_records(self, rows: int) -> Records | None:
        records = self._pending or self._scanner.next_records()
        if records is None:
            return None
        taken, self._pending = records.part(0, rows), records.part(rows, len(records))
        self.row += len(taken)
        return taken


def _split_long(records: Records) -> Iterator[tuple[int, Records]]:
    """Runs of records that can be parsed, and each that is too long by itself; with the first one's place."""
    start = 0
    for index in np.flatnonzero(records.too_long).tolist():
        if index > start:
            yield start, records.part(start, index)
        yield index, records.part(index, index + 1)
        start = index + 1
    if start < len(records):
        yield start, records.part(start, len(records))
