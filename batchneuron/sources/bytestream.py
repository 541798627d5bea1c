"""The bytes of a text file, decompressed where its name ends in `.gz`.

An offset is always one in the decompressed bytes. Knows nothing of lines.
"""

from __future__ import annotations

import zlib
from typing import Any

import pyarrow as pa

from batchneuron.errors import SourceUnreadable
from batchneuron.sources.gzipped import GzipBomb, GzipBytes
from batchneuron.sources.location import first_line, name_fault, open_file, reading
from batchneuron.sources.source import FileId

_SKIP_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_BINARY = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    _GZIP: "gzip data without .gz at the end of its name",
    b"PK\x03\x04": "a ZIP archive",
    b"\x28\xb5\x2f\xfd": "Zstandard data",
    b"\xff\xfe": "UTF-16 text, UTF-8 is wanted",
    b"\xfe\xff": "UTF-16 text, UTF-8 is wanted",
}


class ByteStream:
    """Bytes of one file, from any offset on; a gzip file is read from its start to get there."""

    def __init__(self, file: FileId) -> None:
        self._uri = file.uri
        self._is_gzip = file.uri.lower().endswith(".gz")
        self._bytes: Any = None
        self.offset = 0
        """Offset of the byte that is read next."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end of the file."""
        if self._bytes is None:
            self._open()
        try:
            data: bytes = self._bytes.read(size)
        except (EOFError, zlib.error) as error:
            raise SourceUnreadable(f"is not whole gzip data: {first_line(error)}", self._uri) from error
        except GzipBomb as error:
            hint = "unpack it if it is meant so"
            raise SourceUnreadable(f"is a gzip bomb: {error}", self._uri, hint) from error
        except (pa.ArrowException, OSError) as error:
            raise name_fault(error, self._uri, "text") from error
        self.offset += len(data)
        return data

    def seek(self, offset: int) -> None:
        """Make `offset` the next byte to be read."""
        if self._bytes is None or (self._is_gzip and offset < self.offset):
            self._open()
        if not self._is_gzip:
            self._bytes.seek(offset)
            self.offset = offset
        while self.offset < offset and self.read(min(_SKIP_BYTES, offset - self.offset)):
            pass

    def close(self) -> None:
        """Close the file; reading opens it again, at its start."""
        if self._bytes is not None:
            self._bytes.close()
        self._bytes = None

    def _open(self) -> None:
        self.close()
        self.offset = 0
        with reading(self._uri, "text"):
            raw = open_file(self._uri)
            head = raw.read(8)
            raw.seek(0)
        self._refuse_binary(head)
        self._bytes = GzipBytes(raw) if self._is_gzip else raw

    def _refuse_binary(self, head: bytes) -> None:
        if self._is_gzip:
            if not head.startswith(_GZIP):
                raise SourceUnreadable("is not gzip data, though its name ends in .gz", self._uri)
            return
        for magic, what in _BINARY.items():
            if head.startswith(magic):
                raise SourceUnreadable(f"is {what}, and not plain text", self._uri)
