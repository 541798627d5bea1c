"""Splits a text file into records, in bulk: what a line is for JSON Lines and for CSV.

The same code lists a file's blocks and reads them, so that the two cannot disagree on which record
has which number. Blank lines are no records. Knows nothing of what is in a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from batchneuron.errors import SourceUnreadable
from batchneuron.sources.bytestream import ByteStream
from batchneuron.sources.source import Block, FileId

BLOCK_RECORDS = 1024
CHUNK_BYTES = 4 << 20
MAX_RECORD_BYTES = 256 << 20
BOM = b"\xef\xbb\xbf"
_LF, _CR, _QUOTE = 10, 13, 34

Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Records:
    """Records that follow each other: some bytes, and where in them each record starts and stops."""

    data: bytes
    starts: Offsets
    stops: Offsets
    """Ends without the line break."""
    offset: int
    """Where `data` lies in the file."""

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, lo: int, hi: int) -> Records:
        """Records `lo` to `hi`."""
        return Records(self.data, self.starts[lo:hi], self.stops[lo:hi], self.offset)

    def text(self, index: int) -> bytes:
        """The bytes of one record."""
        return self.data[self.starts[index] : self.stops[index]]

    def span(self) -> bytes:
        """The bytes of all records, with the line breaks between them."""
        return self.data[self.starts[0] : self.stops[-1]]


def is_utf8(data: bytes) -> bool:
    """Whether `data` is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Grammar(Protocol):
    """Where records end."""

    def find_ends(self, data: bytes) -> Offsets:
        """Positions of the line feeds that end a record; `data` starts at a record's start."""

    def has_open_quote(self, data: bytes) -> bool:
        """Whether the last record of a file, which has no line feed, lacks its closing quote."""

    def are_records(self, data: bytes, starts: Offsets, stops: Offsets) -> npt.NDArray[np.bool_]:
        """Which of the lines, none of them empty, are records all the same."""


class JsonLines:
    """One record a line; a line of spaces is blank."""

    def find_ends(self, data: bytes) -> Offsets:
        """Every line feed."""
        return np.flatnonzero(_as_array(data) == _LF)

    def has_open_quote(self, data: bytes) -> bool:
        """Never: what is missing is for the parser to say."""
        return False

    def are_records(self, data: bytes, starts: Offsets, stops: Offsets) -> npt.NDArray[np.bool_]:
        """Lines with something other than white space."""
        return _are_filled(data, starts, stops, b" \t\r")


@dataclass(frozen=True, slots=True)
class QuotedLines:
    """One record a line, but line feeds in quotes do not count."""

    delimiter: bytes

    def find_ends(self, data: bytes) -> Offsets:
        """Line feeds with an even number of quotes before them."""
        feeds = np.flatnonzero(_as_array(data) == _LF)
        quotes = self._find_quotes(data)
        if not len(quotes):
            return feeds
        outside: Offsets = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
        return outside

    def has_open_quote(self, data: bytes) -> bool:
        """Whether the number of quotes is odd."""
        return len(self._find_quotes(data)) % 2 == 1

    def are_records(self, data: bytes, starts: Offsets, stops: Offsets) -> npt.NDArray[np.bool_]:
        """All but those of carriage returns alone: a space is a value, and Arrow has no such rows."""
        return _are_filled(data, starts, stops, b"\r")

    def _find_quotes(self, data: bytes) -> Offsets:
        """Positions of the quotes that open or close; those within an unquoted field do neither."""
        array = _as_array(data)
        quotes = np.flatnonzero(array == _QUOTE)
        opening = quotes[::2]
        before = array[np.maximum(opening - 1, 0)]
        # A doubled quote within a field closes and opens again, which leaves the parity right.
        can_open = (opening == 0) | np.isin(before, [_LF, _CR, _QUOTE, self.delimiter[0]])
        if can_open.all():
            return quotes
        return self._walk_quotes(data, quotes)

    def _walk_quotes(self, data: bytes, quotes: Offsets) -> Offsets:
        # Rare: some quote stands where none can open, as in `5" pipe`, so each has to be looked at.
        starters = b"\n\r" + self.delimiter
        found: list[int] = []
        for position in quotes.tolist():
            is_open = len(found) % 2 == 1
            is_doubled = bool(found) and found[-1] == position - 1
            if is_open or is_doubled or position == 0 or data[position - 1] in starters:
                found.append(position)
        return np.array(found, dtype=np.int64)


class RecordScanner:
    """The records of a file, some thousand at a time."""

    def __init__(self, file: FileId, grammar: Grammar) -> None:
        self._uri = file.uri
        self._stream = ByteStream(file)
        self._grammar = grammar
        self._row = 0
        self._rest = b""
        self._ahead: Records | None = None
        self._is_ended = False

    def next_records(self) -> Records | None:
        """The records of the next chunk; None at the end of the file."""
        records, self._ahead = self._ahead, None
        while not records and not self._is_ended:
            records = self._split(self._fill())
        if not records:
            return None
        self._row += len(records)
        return records

    def pop_first(self) -> bytes | None:
        """The file's first record, which is a header and does not count as a row; None if there is none."""
        records = self.next_records()
        self._row = 0
        if records is None:
            return None
        self._ahead = records.part(1, len(records))
        return records.text(0)

    def seek(self, row: int, offset: int) -> None:
        """Make the record that starts at `offset`, which is number `row`, the next one."""
        self._row, self._rest, self._ahead, self._is_ended = row, b"", None, False
        self._stream.seek(offset)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _fill(self) -> bytes:
        """What was left over, and the next bytes of the file."""
        # A record longer than a chunk is looked through again: doubling keeps that linear.
        try:
            chunk = self._stream.read(max(CHUNK_BYTES, len(BOM), len(self._rest)))
        except SourceUnreadable as error:
            raise SourceUnreadable(f"{error.what}, after {self._row} rows", self._uri) from error
        self._is_ended = not chunk
        if self._stream.offset == len(chunk):
            chunk = chunk.removeprefix(BOM)
        return self._rest + chunk

    def _split(self, data: bytes) -> Records:
        ends = self._grammar.find_ends(data)
        whole = int(ends[-1]) + 1 if len(ends) else 0
        self._rest = data[whole:]
        if self._is_ended and self._rest:
            ends = np.append(ends, len(data))
        self._check_rest()
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        stops = ends - ((ends > starts) & (_as_array(data)[ends - 1] == _CR))
        starts, stops = _select(stops > starts, starts, stops)
        starts, stops = _select(self._grammar.are_records(data, starts, stops), starts, stops)
        return Records(data, starts, stops, self._stream.offset - len(data))

    def _check_rest(self) -> None:
        """Refuse a last record that never ends, before it swallows the file."""
        start = self._stream.offset - len(self._rest)
        if self._is_ended and self._grammar.has_open_quote(self._rest):
            what = f"a quote in the record at byte {start:,} is never closed"
            raise SourceUnreadable(what, self._uri, "the file is cut off, or the quote is stray")
        if len(self._rest) > MAX_RECORD_BYTES:
            what = f"the record at byte {start:,} is longer than {MAX_RECORD_BYTES >> 20} MiB"
            raise SourceUnreadable(what, self._uri, "is it the file that was meant?")


def scan_blocks(scanner: RecordScanner) -> tuple[Block, ...]:
    """All the rest of a file as blocks of `BLOCK_RECORDS` records, fewer where they are long."""
    rows = 0
    end = 0
    firsts: list[tuple[int, int]] = []
    while (records := scanner.next_records()) is not None:
        offset = records.offset
        for index in range(0, len(records), BLOCK_RECORDS):
            firsts.append((rows + index, offset + int(records.starts[index])))
        rows += len(records)
        end = offset + int(records.stops[-1])
    return tuple(
        Block(row, next_row - row, next_offset - offset, offset)
        for (row, offset), (next_row, next_offset) in pairwise([*firsts, (rows, end)])
    )


def _select(keep: npt.NDArray[np.bool_], starts: Offsets, stops: Offsets) -> tuple[Offsets, Offsets]:
    return (starts, stops) if keep.all() else (starts[keep], stops[keep])


def _are_filled(data: bytes, starts: Offsets, stops: Offsets, blanks: bytes) -> npt.NDArray[np.bool_]:
    """Which lines hold something other than these bytes."""
    keep = np.ones(len(starts), dtype=bool)
    for index in np.flatnonzero(np.isin(_as_array(data)[starts], list(blanks))):
        keep[index] = bool(data[starts[index] : stops[index]].strip(blanks))
    return keep


def _as_array(data: bytes) -> Bytes:
    return np.frombuffer(data, dtype=np.uint8)
