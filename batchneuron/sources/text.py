"""A place in a text file: what the cursors of JSON Lines and CSV have in common.

The two differ in the grammar of their scanner and in how records become rows.
"""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from batchneuron.sources.lines import Records, RecordScanner
from batchneuron.sources.source import ShardRows


class Parser(Protocol):
    """Turns records into rows."""

    def parse(self, records: Records, row: int) -> ShardRows:
        """As many rows as there are records; `row` is the first one's number within the file."""


class TextCursor:
    """A place in a text file; implements `Cursor`."""

    def __init__(self, scanner: RecordScanner, parser: Parser) -> None:
        self._scanner = scanner
        self._parser = parser
        self._pending: Records | None = None
        self.row = 0

    def jump(self, row: int, position: int) -> None:
        """Go to the record that starts at byte `position`."""
        self._pending = None
        self._scanner.seek(row, position)
        self.row = row

    def skip(self, rows: int) -> None:
        """Pass over records without parsing them."""
        while rows > 0 and (records := self._take_records(rows)) is not None:
            rows -= len(records)

    def take(self, rows: int) -> ShardRows:
        """The next rows, up to the end of the chunk at hand."""
        first = self.row
        records = self._take_records(rows)
        return ShardRows(pa.table({})) if records is None else self._parser.parse(records, first)

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
