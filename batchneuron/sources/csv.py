"""CSV and TSV files: a header line, then rows; every column is text.

Nothing is converted, so `01234` stays what it is. A row with too many or too few fields, or with bytes
that are not UTF-8, is rejected alone; such bytes are replaced instead where `input.encoding_errors` says so.
"""

from __future__ import annotations

import csv
from collections.abc import Container, Sequence
from dataclasses import dataclass
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
from batchneuron.sources.mending import decode_column
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

    def open_cursor(self, file: FileId, schema: pa.Schema, *, mends: bool = False) -> TextCursor:
        """A cursor over the columns of `schema` that the file has."""
        scanner, header = _open_scanner(file)
        own = set(header)
        wanted = tuple(name for name in schema.names if name in own)
        # With no column to convert Arrow would convert them all; one is enough to see what is ragged.
        return TextCursor(file.uri, scanner, CsvParser(file.uri, header, wanted or header[:1], mends))


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
    mends: bool
    """Whether bytes that are not UTF-8 are replaced; otherwise they reject their row."""

    def parse(self, records: Records, row: int) -> ShardRows:
        """One row for each record, all columns text."""
        tables: list[pa.Table] = []
        faults: dict[int, str] = {}
        self._collect(records, 0, tables, faults)
        places = records.name_places(row) if faults else []  # once: it looks through the whole chunk
        return ShardRows(
            pa.concat_tables(tables),
            tuple(
                Rejection(index, "bad_record", f"{self.uri}: {places[index]}: {reason}")
                for index, reason in sorted(faults.items())
            ),
        )

    def refuse(self, message: str) -> ShardRows:
        """One row of nulls, rejected with this message."""
        return ShardRows(self._make_nulls(), (Rejection(0, "bad_record", message),))

    def _collect(self, records: Records, first: int, tables: list[pa.Table], faults: dict[int, str]) -> None:
        """Parse in bulk; where Arrow refuses, halve until the records at fault are alone.

        `first` is the number of the first record within the chunk, which is how `faults` has them.
        """
        try:
            table, bad = self._parse_bulk(records)
        except pa.ArrowInvalid as error:
            if len(records) > 1:
                middle = len(records) // 2
                self._collect(records.part(0, middle), first, tables, faults)
                self._collect(records.part(middle, len(records)), first + middle, tables, faults)
                return
            table, bad = self._make_nulls(), {0: first_line(error)}
        tables.append(table)
        faults.update((first + index, reason) for index, reason in bad.items())

    def _parse_bulk(self, records: Records) -> tuple[pa.Table, dict[int, str]]:
        """One row for each record; those with a wrong number of fields are nulls, and named.

        So are those that are not UTF-8. Arrow would refuse them all for one of them, but for bytes.
        """
        data = records.span()
        is_text = is_utf8(data)
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
                invalid_row_handler=pass_over if is_text else None,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(self.header, pa.string() if is_text else pa.binary()),
                include_columns=self.wanted,
                strings_can_be_null=False,
            ),
        )
        # Arrow ends a row at a bare carriage return too: more rows than records, never fewer.
        if table.num_rows + len(ragged) != len(records):
            raise pa.ArrowInvalid("a carriage return outside of quotes")
        return (_insert_nulls(table, ragged, len(records)), ragged) if is_text else self._decode(table)

    def _decode(self, table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
        """A table of bytes as text, and what is not UTF-8 in it, by row."""
        columns: dict[str, pa.ChunkedArray] = {}
        bad: dict[int, str] = {}
        for name in table.column_names:
            columns[name], rows = decode_column(table[name], mends=self.mends)
            bad |= dict.fromkeys(rows, f"column {name!r} is not UTF-8")
        return pa.table(columns), bad

    def _make_nulls(self) -> pa.Table:
        return pa.table({name: pa.nulls(1, pa.string()) for name in self.wanted})


def _insert_nulls(table: pa.Table, missing: Container[int], rows: int) -> pa.Table:
    """`table` spread over `rows` rows, with nulls in those that are missing."""
    if table.num_rows == rows:
        return table
    mask = np.array([row in missing for row in range(rows)])
    return table.take(pa.array(np.cumsum(~mask) - 1, mask=mask))
