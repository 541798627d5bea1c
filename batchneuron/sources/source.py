"""The Source seam: what a dataset must be able to say and do.

A source is listed once, by the parent (`inventory`), and read by workers (`open_reader`). Rows are
ordered by file name, then by position; a row's ordinal is its place in that order. Nothing here
knows about tasks, models or workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.rejection import Rejection


@dataclass(frozen=True, slots=True)
class FileId:
    """A file as it was when it was listed; a reader refuses one that has changed since."""

    uri: str
    size_bytes: int
    version: str
    """In a bucket the ETag, on a disk the modification time in ns: what changes when the content does."""


@dataclass(frozen=True, slots=True)
class Block:
    """The smallest piece of a file that a reader can jump to: a row group, a batch, some lines."""

    row_lo: int
    """First row, counted within the file."""
    rows: int
    size_bytes: int
    """Uncompressed size, as near as the format tells without reading the data."""
    position: int
    """Private to the source: the row group's number, the byte offset, the batch's number."""
    line: int = 0
    """The line of a text file in which it begins, from 1; 0: not known, or no text."""


@dataclass(frozen=True, slots=True)
class FileInventory:
    """One file and its blocks, in row order."""

    file: FileId
    blocks: tuple[Block, ...]

    @property
    def rows(self) -> int:
        """Rows in this file."""
        return self.blocks[-1].row_lo + self.blocks[-1].rows if self.blocks else 0


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that is left out, because it is damaged and `input.on_bad_file` says `skip`."""

    uri: str
    reason: str
    rows: int | None
    """Rows before the damage, all of them left out too; None: they could not be counted."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A column that some files have otherwise than the others."""

    column: str
    found: str | None
    """The type there; None: they do not have it."""
    read_as: str
    """The type that all files are read as."""
    files: int
    rows: int
    """In those files."""
    first: str
    """One of them."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All files of a source, and the schema that all of them can be read as."""

    files: tuple[FileInventory, ...]
    schema: pa.Schema
    skipped: tuple[SkippedFile, ...] = ()
    drifts: tuple[Drift, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in all files."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class Slice:
    """A contiguous range of rows of one file, and the block to jump to in order to reach it."""

    file: FileId
    row_lo: int
    """First row, counted within the file."""
    row_hi: int
    """One past the last row."""
    block_row: int
    """`row_lo` of the block that holds the first row."""
    block_position: int
    """`position` of that block."""
    block_line: int = 0
    """`line` of that block."""

    @property
    def rows(self) -> int:
        """Rows in this slice."""
        return self.row_hi - self.row_lo


@dataclass(frozen=True, slots=True)
class ShardRows:
    """The rows of some slices: exactly as many as the slices say, in order.

    A row that could not be parsed is present with nulls in all columns, and named in `rejections`.
    """

    table: pa.Table
    rejections: tuple[Rejection, ...] = ()
    lines: NDArray[np.int64] | None = None
    """The line of its text file in which each row begins, 0 where it is not known; None: of no row."""


class Reader(Protocol):
    """Reads slices. Holds at most one open file; slices that follow each other are streamed."""

    def read(self, slices: Sequence[Slice]) -> ShardRows:
        """The rows of these slices, with the columns and types of the reader's schema.

        Raises:
            SourceChanged: a file is not the one that was listed.
            SourceUnreadable: a file is torn or truncated.
            SourceForbidden: it may not be read.
            SourceUnavailable: where it lies, nothing has answered for as long as patience lasts.
        """

    def close(self) -> None:
        """Release the open file; reading again opens it again."""


class Source(Protocol):
    """A dataset in one format."""

    def inventory(self) -> Inventory:
        """Every file with its blocks, and the schema; reads footers or scans lines, never values.

        Raises:
            SourceNotFound: nothing is there.
            SourceUnreadable: a file is not of this format.
        """

    def open_reader(self, schema: pa.Schema) -> Reader:
        """A reader of the columns in `schema`, a subset of the inventory's, and of no others."""
