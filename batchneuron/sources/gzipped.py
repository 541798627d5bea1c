"""Decompressed bytes of a gzip file, however many members it has, and zeros after each as padding.

Arrow's own stream gives nothing of a read in which the data ends too early; here all bytes before the
damage come out, so that the error can say how many rows they hold. A bomb is stopped: text that shrinks
to a two-hundredth and less is not what anybody has rows in.
"""

from __future__ import annotations

import zlib
from typing import Any

_READ_BYTES = 1 << 20
_GZIP_WINDOW = 31  # zlib's word for a gzip header and trailer around the data
_PADDING = (
    b"\0"  # what tapes, and tools that write whole blocks, fill up with; Python's gzip passes over it too
)
MAX_RATIO = 200
UNSUSPECTED_BYTES = 256 << 20


class GzipBomb(Exception):
    """The data grows beyond all proportion."""


class GzipBytes:
    """Reads a gzip file from its start; a read never gives more than it was asked for."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._has_begun = False
        """Whether the member at hand has had any byte."""
        self._read_bytes = 0
        self._given_bytes = 0

    def read(self, size: int) -> bytes:
        """At most `size` decompressed bytes, none at the end.

        Raises:
            EOFError: the file ends within a member.
            zlib.error: the data is damaged.
            GzipBomb: it has grown to more than `UNSUSPECTED_BYTES`, and `MAX_RATIO` times what was read.
        """
        pieces: list[bytes] = []
        wanted = size
        while wanted > 0:
            compressed = self._next_compressed()
            if not compressed:
                break
            piece = self._member.decompress(compressed, wanted)
            pieces.append(piece)
            wanted -= len(piece)
        self._given_bytes += size - wanted
        if self._given_bytes > max(UNSUSPECTED_BYTES, MAX_RATIO * self._read_bytes):
            raise GzipBomb(f"{self._read_bytes:,} bytes have grown to {self._given_bytes:,}")
        if wanted == size and self._has_begun:
            raise EOFError("it ends too early")
        return b"".join(pieces)

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _next_compressed(self) -> bytes:
        left: bytes = self._member.unconsumed_tail
        if self._member.eof:
            left = self._member.unused_data.lstrip(_PADDING)
            self._member = zlib.decompressobj(_GZIP_WINDOW)
            self._has_begun = False
        while not left and (chunk := self._raw.read(_READ_BYTES)):
            self._read_bytes += len(chunk)
            left = chunk if self._has_begun else chunk.lstrip(_PADDING)
        self._has_begun = self._has_begun or bool(left)
        return left
