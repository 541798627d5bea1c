"""CSV and TSV files: a header line, then rows; every column is text.

Nothing is converted, so `01234` stays what it is. A row with too many or too few fields, or with bytes
that are not UTF-8, is rejected alone.
"""

from __future__ import annotations

import csv
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv

from batchneuron.errors import SourceUnreadable
from batchneuron.rejection import Rejection
from batchneuron.sources.conform import unify_scans
from batchneuron.sources.grammar import QuotedLines
from batchneuron.sources.lines import BOM, Records, RecordScanner, is_utf8, scan_blocks
from batchneuron.sources.location import first_line
from batchneuron.sources.scan import Scan
from batchneuron.sources.source import FileId, ShardRows
from batchneuron.sources.text import TextCursor


class CsvFormat:
    """CSV, as a `Format`; tab-separated where the name says `.tsv`."""

    def scan(self, file: FileId) -> Scan:
        """Blocks from a scan of the whole file, columns from its header."""
        scanner, header = _open_scanner(file)
        try:
            return Scan(scan_blocks(scanner), pa.schema([(name, pa.string()) for name in header]))
        finally:
            scanner.close()

    def unify(self, scans: Sequence[tuple[FileId, Scan]]) -> pa.Schema:
        """The union of the headers."""
        return unify_scans(scans)

    def open_cursor(self, file: FileId, schema: pa.Schema) -> TextCursor:
        """A cursor over the columns of `schema` that the file has."""
        scanner, header = _open_scanner(file)
        own = set(header)
        wanted = tuple(name for name in schema.names if name in own)
        # With no column to convert Arrow would convert them all; one is enough to see what is ragged.
        return TextCursor(file.uri, scanner, CsvParser(file.uri, header, wanted or header[:1]))


def _open_scanner(file: FileId) -> tuple[RecordScanner, tuple[str, ...]]:
    """A scanner that has passed the header, and the names in it."""
    scanner = RecordScanner(file, QuotedLines(_delimiter(file.uri).encode()))
    line = scanner.pop_first()
    if line is None:
        raise SourceUnreadable("has no header line", file.uri, "the first line must name the columns")
    try:
        header = next(csv.reader([line.decode()], delimiter=_delimiter(file.uri)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceUnreadable(f"has no readable header line: {first_line(error)}", file.uri) from error
    return scanner, tuple(header)


def _delimiter(uri: str) -> str:
    return "\t" if uri.lower().removesuffix(".gz").endswith(".tsv") else ","


@dataclass(frozen=True, slots=True)
class CsvParser:
    """Makes rows of CSV records; implements `Parser`."""

    uri: str
    header: tuple[str, ...]
    wanted: tuple[str, ...]
    """Columns to convert, at least one."""

    def parse(self, records: Records, row: int) -> ShardRows:
        """One row for each record, all columns text."""
        tables: list[pa.Table] = []
        rejections: list[Rejection] = []
        self._collect(records, row, tables, rejections)
        numbered = (replace(rejection, row=rejection.row - row) for rejection in rejections)
        return ShardRows(pa.concat_tables(tables), tuple(numbered))

    def refuse(self, message: str) -> ShardRows:
        """One row of nulls, rejected with this message."""
        return ShardRows(self._make_nulls(), (Rejection(0, "bad_record", message),))

    def _collect(
        self, records: Records, row: int, tables: list[pa.Table], rejections: list[Rejection]
    ) -> None:
        """Parse in bulk; where Arrow refuses, halve until the records at fault are alone."""
        try:
            table, ragged = self._parse_bulk(records)
        except pa.ArrowInvalid as error:
            if len(records) > 1:
                middle = len(records) // 2
                self._collect(records.part(0, middle), row, tables, rejections)
                self._collect(records.part(middle, len(records)), row + middle, tables, rejections)
                return
            table, ragged = self._make_nulls(), {0: first_line(error)}
        tables.append(table)
        places = records.name_places(row) if ragged else []
        for index, reason in sorted(ragged.items()):
            message = f"{self.uri}: {places[index]}: {reason}"
            rejections.append(Rejection(row + index, "bad_record", message))

    def _parse_bulk(self, records: Records) -> tuple[pa.Table, dict[int, str]]:
        """One row for each record; those with a wrong number of fields are nulls, and named."""
        data = records.span()
        if data.startswith(BOM):
            data = b"\n" + data  # Arrow drops it at the start of a file, which this is not
        ragged: dict[int, str] = {}

        def pass_over(row: Any) -> str:
            ragged[row.number - 1] = f"{row.actual_columns} fields where {row.expected_columns} were expected"
            return "skip"

        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=self.header
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=_delimiter(self.uri),
                newlines_in_values=True,
                # The handler is given text: Arrow cannot make any of bytes that are not UTF-8.
                invalid_row_handler=pass_over if is_utf8(data) else None,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(self.header, pa.string()),
                include_columns=self.wanted,
                strings_can_be_null=False,
            ),
        )
        # Arrow ends a row at a bare carriage return too: more rows than records, never fewer.
        if table.num_rows + len(ragged) != len(records):
            raise pa.ArrowInvalid("a carriage return outside of quotes")
        return _insert_nulls(table, ragged, len(records)), ragged

    def _make_nulls(self) -> pa.Table:
        return pa.table({name: pa.nulls(1, pa.string()) for name in self.wanted})


def _insert_nulls(table: pa.Table, missing: Container[int], rows: int) -> pa.Table:
    """`table` spread over `rows` rows, with nulls in those that are missing."""
    if table.num_rows == rows:
        return table
    mask = np.array([row in missing for row in range(rows)])
    return table.take(pa.array(np.cumsum(~mask) - 1, mask=mask))
