"""Where a record ends, for JSON Lines and for CSV.

Works on bytes that begin where a record does. A record too long to be held is gone through in pieces: what
came before a piece is `carry`, a byte or two that leave the grammar in the same state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

_LF, _CR, _QUOTE = 10, 13, 34

Offsets = npt.NDArray[np.int64]


class Grammar(Protocol):
    """Where records end."""

    @property
    def blanks(self) -> bytes:
        """A line of these bytes alone is no record."""

    def find_ends(self, data: bytes) -> Offsets:
        """Positions of the line feeds that end a record; `data` starts at a record's start."""

    def has_open_quote(self, data: bytes) -> bool:
        """Whether the last record of a file, which has no line feed, lacks its closing quote."""

    def carry(self, data: bytes) -> bytes:
        """What stands for the beginning of a record that does not end in `data`."""


class JsonLines:
    """One record a line; a line of spaces is blank."""

    blanks = b" \t\r"

    def find_ends(self, data: bytes) -> Offsets:
        """Every line feed."""
        return find_feeds(data)

    def has_open_quote(self, data: bytes) -> bool:
        """Never: what is missing is for the parser to say."""
        return False

    def carry(self, data: bytes) -> bytes:
        """Nothing: a line feed ends a record wherever it stands."""
        return b""


@dataclass(frozen=True, slots=True)
class QuotedLines:
    """One record a line, but line feeds in quotes do not count."""

    delimiter: bytes

    @property
    def blanks(self) -> bytes:
        """Carriage returns alone: a space is a value, and Arrow has no such rows."""
        return b"\r"

    def find_ends(self, data: bytes) -> Offsets:
        """Line feeds with an even number of quotes before them."""
        feeds = find_feeds(data)
        quotes = self._find_quotes(data)
        if not len(quotes):
            return feeds
        outside: Offsets = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
        return outside

    def has_open_quote(self, data: bytes) -> bool:
        """Whether the number of quotes is odd."""
        return len(self._find_quotes(data)) % 2 == 1

    def carry(self, data: bytes) -> bytes:
        """An open quote, a closed one that the next byte may double, or the last byte."""
        quotes = self._find_quotes(data)
        if len(quotes) % 2:
            return b'"'
        if data[-1] != _QUOTE:
            return data[-1:]
        return b'""' if len(quotes) and quotes[-1] == len(data) - 1 else b'x"'

    def _find_quotes(self, data: bytes) -> Offsets:
        """Positions of the quotes that open or close; those within an unquoted field do neither."""
        array = as_array(data)
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


def find_feeds(data: bytes) -> Offsets:
    """Positions of all line feeds."""
    return np.flatnonzero(as_array(data) == _LF)


def as_array(data: bytes) -> npt.NDArray[np.uint8]:
    """The bytes as numbers, without a copy."""
    return np.frombuffer(data, dtype=np.uint8)
