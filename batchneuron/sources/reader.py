"""Reads slices, of any format, by means of one cursor.

A cursor is an open file and a place in it. Slices that follow each other are streamed: the cursor
stays where it is, so nothing is read twice. Any other slice is reached through its block. A file that is
damaged within a slice ends the read, or loses the rest of that slice, as `input.on_bad_file` says. One that
gives no answer is read again from the slice's start, for as long as patience lasts.

A cursor outlives many reads, and its file may be written over meanwhile. So each read ends with a look at
the files it was made of, before any row is given away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.errors import SourceUnavailable, SourceUnreadable
from batchneuron.rejection import Rejection
from batchneuron.sources.conform import conform
from batchneuron.sources.location import map_files
from batchneuron.sources.patience import Patience
from batchneuron.sources.source import FileId, ShardRows, Slice


class Cursor(Protocol):
    """One open file and a place in it; rows come with the file's own columns and types."""

    @property
    def row(self) -> int:
        """The next row, counted within the file."""

    def jump(self, row: int, position: int, line: int) -> None:
        """Go to the first row of a block; `line` is that of a text file, 0 where it is not known."""

    def skip(self, rows: int) -> None:
        """Pass over rows, or over as many as there are."""

    def take(self, rows: int) -> ShardRows:
        """The next rows: at most `rows`, at least one, none at the end of the file."""

    def close(self) -> None:
        """Close the file."""


class Files(Protocol):
    """Where slices come from."""

    def open_cursor(self, file: FileId, schema: pa.Schema) -> Cursor:
        """A cursor over those columns of `schema` that the file has."""

    def verify(self, file: FileId) -> None:
        """Check that a file still is what it was when it was listed.

        Raises:
            SourceChanged: it is not.
        """


class SliceReader:
    """A `Reader` of the columns in `schema`, over some files."""

    def __init__(
        self,
        schema: pa.Schema,
        files: Files,
        *,
        skips_damage: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self._schema = schema
        self._files = files
        self._skips_damage = skips_damage
        self._patience = patience or Patience()
        self._file: FileId | None = None
        self._cursor: Cursor | None = None

    def read(self, slices: Sequence[Slice]) -> ShardRows:
        """The rows of these slices, in order, in the reader's schema."""
        wanted = [part for part in slices if part.rows]
        pieces: list[ShardRows] = []
        try:
            for part in wanted:
                pieces.extend(self._patience.ask(partial(self._read_slice, part)))
            files = dict.fromkeys(part.file for part in wanted)
            self._patience.ask(partial(map_files, self._files.verify, files))
        except BaseException:
            self.close()  # the cursor's place is unknown
            raise
        return join_rows(pieces, self._schema)

    def close(self) -> None:
        """Close the open file, if there is one."""
        cursor, self._cursor, self._file = self._cursor, None, None
        if cursor is not None:
            cursor.close()

    def _read_slice(self, part: Slice) -> list[ShardRows]:
        pieces: list[ShardRows] = []
        try:
            for piece in self._iter_pieces(part):
                pieces.append(piece)
        except SourceUnavailable:
            self.close()  # whoever asks again begins with a new one
            raise
        except SourceUnreadable as error:
            self.close()  # the next slice begins at its own block, which may be whole
            self._files.verify(part.file)  # what was written over looks damaged
            if not self._skips_damage:
                raise
            read = sum(piece.table.num_rows for piece in pieces)
            pieces.append(lose_rows(part.rows - read, self._schema, f"{error.where}: {error.what}"))
        return pieces

    def _iter_pieces(self, part: Slice) -> Iterator[ShardRows]:
        cursor = self._cursor_of(part.file)
        if not part.block_row <= cursor.row <= part.row_lo:
            cursor.jump(part.block_row, part.block_position, part.block_line)
        cursor.skip(part.row_lo - cursor.row)
        while cursor.row < part.row_hi:
            first = cursor.row
            rows = cursor.take(part.row_hi - first)
            if cursor.row == first:
                raise SourceUnreadable(f"has {first} rows, {part.row_hi} were expected", part.file.uri)
            yield conform(rows, self._schema, part.file.uri, first)

    def _cursor_of(self, file: FileId) -> Cursor:
        if self._cursor is None or self._file != file:
            self.close()
            self._cursor = self._files.open_cursor(file, self._schema)
            self._file = file
        return self._cursor


def lose_rows(rows: int, schema: pa.Schema, message: str) -> ShardRows:
    """Nulls in the place of rows that are lost, each rejected with this message."""
    nulls = [pa.nulls(rows, field.type) for field in schema]
    return ShardRows(
        pa.Table.from_arrays(nulls, schema=schema),
        tuple(Rejection(row, "bad_file", message) for row in range(rows)),
    )


def join_rows(pieces: Sequence[ShardRows], schema: pa.Schema) -> ShardRows:
    """Pieces in one, rejections renumbered to match, lines where any piece has them."""
    offset = 0
    rejections = []
    for piece in pieces:
        rejections += [replace(rejection, row=rejection.row + offset) for rejection in piece.rejections]
        offset += piece.table.num_rows
    tables = [piece.table for piece in pieces]
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    return ShardRows(whole, tuple(rejections), _join_lines(pieces))


def _join_lines(pieces: Sequence[ShardRows]) -> NDArray[np.int64] | None:
    if all(piece.lines is None for piece in pieces):
        return None
    unknown = (np.zeros(piece.table.num_rows, dtype=np.int64) for piece in pieces)
    return np.concatenate(
        [none if piece.lines is None else piece.lines for piece, none in zip(pieces, unknown, strict=True)]
    )
