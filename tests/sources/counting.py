"""A file that remembers which of its bytes were read."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa


class CountingFile(io.FileIO):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.ranges: list[tuple[int, int]] = []

    def read(self, size: int = -1) -> bytes:
        start = self.tell()
        data = super().read(size)
        self.ranges.append((start, start + len(data)))
        return data


class CountingOpener:
    """Stands in for `open_file`, and knows what was read of every file it opened."""

    def __init__(self) -> None:
        self.files: list[CountingFile] = []

    def __call__(self, uri: str) -> pa.PythonFile:
        self.files.append(CountingFile(uri))
        return pa.PythonFile(self.files[-1], mode="r")

    def bytes_read(self) -> int:
        return sum(hi - lo for file in self.files for lo, hi in file.ranges)

    def has_read(self, path: Path, needle: bytes) -> bool:
        """Whether these bytes were among those read."""
        at = path.read_bytes().index(needle)
        return any(lo < at + len(needle) and at < hi for file in self.files for lo, hi in file.ranges)
