"""Splits a text file into records, in bulk: what a line is for JSON Lines and for CSV.

The same code lists a file's blocks and reads them, so that the two cannot disagree on which record
has which number. Blank lines are no records. A record that is too long keeps its number and its line,
and its bytes are passed over, so that no line of any length fills the memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from batchneuron.errors import SourceUnreadable
from batchneuron.sources.bytestream import ByteStream
from batchneuron.sources.grammar import Grammar, Offsets, as_array, find_feeds
from batchneuron.sources.source import Block, FileId

BLOCK_RECORDS = 1024
CHUNK_BYTES = 4 << 20
MAX_RECORD_BYTES = 8 << 20
BOM = b"\xef\xbb\xbf"
_CR = 13


@dataclass(frozen=True, slots=True)
class Records:
    """Records that follow each other: some bytes, and where in them each record starts and stops."""

    data: bytes
    """Does not hold a record that is too long."""
    starts: Offsets
    stops: Offsets
    """Ends without the line break."""
    offset: int
    """Where `data` lies in the file."""
    line: int
    """The file's line in which `data` begins, from 1; 0: not known."""

    def __len__(self) -> int:
        return len(self.starts)

    def part(self, lo: int, hi: int) -> Records:
        """Records `lo` to `hi`."""
        return Records(self.data, self.starts[lo:hi], self.stops[lo:hi], self.offset, self.line)

    def text(self, index: int) -> bytes:
        """The bytes of one record."""
        return self.data[self.starts[index] : self.stops[index]]

    def span(self) -> bytes:
        """The bytes of all records, with the line breaks between them."""
        return self.data[self.starts[0] : self.stops[-1]]

    @property
    def too_long(self) -> npt.NDArray[np.bool_]:
        """Records of more than `MAX_RECORD_BYTES`."""
        return self.stops - self.starts > MAX_RECORD_BYTES

    def lines(self, step: int = 1) -> npt.NDArray[np.int64]:
        """The file's line in which each record begins, or each `step`-th one, from 1."""
        first = int(self.starts[0])  # of a large chunk, few records may be left
        before: npt.NDArray[np.int64] = np.searchsorted(find_feeds(self.span()), self.starts[::step] - first)
        return self.line + self.data.count(b"\n", 0, first) + before

    def name_places(self, row: int) -> list[str]:
        """Where each record is, in words: `line 14`; `record 12` in a plan that knows no lines.

        `row` is the first one's number within the file, from 0.
        """
        if self.line:
            return [f"line {line}" for line in self.lines().tolist()]
        return [f"record {number}" for number in range(row + 1, row + 1 + len(self))]


def is_utf8(data: bytes) -> bool:
    """Whether `data` is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class RecordScanner:
    """The records of a file, some thousand at a time."""

    def __init__(self, file: FileId, grammar: Grammar) -> None:
        self._uri = file.uri
        self._stream = ByteStream(file)
        self._grammar = grammar
        self._row = 0
        self._line = 1
        """In which `_rest` begins; 0: not known."""
        self._rest = b""
        self._ahead: Records | None = None
        self._is_ended = False

    def next_records(self) -> Records | None:
        """The records of the next chunk; None at the end of the file."""
        records, self._ahead = self._ahead, None
        while not records and not self._is_ended:
            # A carriage return may still turn out to be half of the line break.
            is_long = len(self._rest) > MAX_RECORD_BYTES + 1
            records = self._pass_long_record() if is_long else self._split(self._fill())
        if not records:
            return None
        self._row += len(records)
        return records

    def peek_first(self) -> bytes | None:
        """The file's first record, which stays the next one; None if there is none."""
        self._ahead = self.next_records()
        self._row = 0
        return self._ahead.text(0) if self._ahead else None

    def pop_first(self) -> bytes | None:
        """The file's first record, which is a header and does not count as a row; None if there is none."""
        header = self.peek_first()
        if self._ahead:
            self._ahead = self._ahead.part(1, len(self._ahead))
        return header

    def seek(self, row: int, offset: int, line: int) -> None:
        """Make the record that starts at `offset`, which is number `row` and in `line`, the next one."""
        self._row, self._line, self._rest = row, line, b""
        self._ahead, self._is_ended = None, False
        self._stream.seek(offset)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _read(self, size: int) -> bytes:
        """The next bytes of the file; none at its end."""
        try:
            chunk = self._stream.read(max(size, len(BOM)))
        except SourceUnreadable as error:
            raise self._fault(f"{error.what}, after {self._row} rows", error.hint) from error
        self._is_ended = not chunk
        if self._stream.offset == len(chunk):
            chunk = chunk.removeprefix(BOM)
        return chunk

    def _fill(self) -> bytes:
        """What was left over, and the next bytes of the file."""
        # What is left over is looked through again: doubling keeps that linear.
        most = MAX_RECORD_BYTES + 2 - len(self._rest)
        return self._rest + self._read(max(CHUNK_BYTES, min(len(self._rest), most)))

    def _split(self, data: bytes) -> Records:
        ends = self._grammar.find_ends(data)
        whole = int(ends[-1]) + 1 if len(ends) else 0
        self._rest = data[whole:]
        if self._is_ended and self._rest:
            self._require_closed(self._rest, self._stream.offset - len(self._rest))
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        stops = ends - ((ends > starts) & (as_array(data)[ends - 1] == _CR))
        starts, stops = _select(stops > starts, starts, stops)
        starts, stops = _select(_are_filled(data, starts, stops, self._grammar.blanks), starts, stops)
        records = Records(data, starts, stops, self._stream.offset - len(data), self._line)
        self._pass_lines(data, whole)
        return records

    def _pass_long_record(self) -> Records | None:
        """The record that `_rest` begins and that is too long to be held; None: it was blank."""
        held, self._rest = self._rest, b""
        start, line = self._stream.offset - len(held), self._line
        is_blank = not held.strip(self._grammar.blanks)
        self._pass_lines(held, len(held))
        state = self._grammar.carry(held)
        del held
        stop = None
        while stop is None and (chunk := self._read(CHUNK_BYTES)):
            ends = self._grammar.find_ends(state + chunk)
            cut = int(ends[0]) - len(state) if len(ends) else len(chunk)
            if len(ends):
                stop = self._stream.offset - len(chunk) + cut
                self._rest = chunk[cut + 1 :]
            self._pass_lines(chunk, cut + 1)
            is_blank = is_blank and not chunk[:cut].strip(self._grammar.blanks)
            state = self._grammar.carry(state + chunk[:cut])
        if stop is None:
            self._require_closed(state, start)
            stop = self._stream.offset
        if is_blank:
            return None
        return Records(b"", np.array([0]), np.array([stop - start]), start, line)

    def _pass_lines(self, data: bytes, size: int) -> None:
        if self._line:
            self._line += data.count(b"\n", 0, size)

    def _require_closed(self, data: bytes, start: int) -> None:
        """Refuse a last record whose quote never closes: it has swallowed others."""
        if self._grammar.has_open_quote(data):
            what = f"a quote in the record at byte {start:,} is never closed"
            raise self._fault(what, "the file is cut off, or the quote is stray")

    def _fault(self, what: str, hint: str) -> SourceUnreadable:
        error = SourceUnreadable(what, self._uri, hint)
        error.rows = self._row
        return error


def scan_blocks(scanner: RecordScanner) -> tuple[Block, ...]:
    """All the rest of a file as blocks of `BLOCK_RECORDS` records, fewer where they are long."""
    rows = 0
    end = 0
    firsts: list[tuple[int, int, int]] = []
    while (records := scanner.next_records()) is not None:
        offset = records.offset
        for place, line in enumerate(records.lines(BLOCK_RECORDS).tolist()):
            index = place * BLOCK_RECORDS
            firsts.append((rows + index, offset + int(records.starts[index]), line))
        rows += len(records)
        end = offset + int(records.stops[-1])
    return tuple(
        Block(row, next_row - row, next_offset - offset, offset, line)
        for (row, offset, line), (next_row, next_offset, _) in pairwise([*firsts, (rows, end, 0)])
    )


def _select(keep: npt.NDArray[np.bool_], starts: Offsets, stops: Offsets) -> tuple[Offsets, Offsets]:
    return (starts, stops) if keep.all() else (starts[keep], stops[keep])


def _are_filled(data: bytes, starts: Offsets, stops: Offsets, blanks: bytes) -> npt.NDArray[np.bool_]:
    """Which lines hold something other than these bytes."""
    keep = np.ones(len(starts), dtype=bool)
    for index in np.flatnonzero(np.isin(as_array(data)[starts], list(blanks))):
        keep[index] = bool(data[starts[index] : stops[index]].strip(blanks))
    return keep
