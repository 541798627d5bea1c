"""What one file tells before any of its rows is read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from batchneuron.sources.source import Block


@dataclass(frozen=True, slots=True)
class Scan:
    """One file's blocks, and its columns where the file names them."""

    blocks: tuple[Block, ...]
    schema: pa.Schema | None
    """None: types are told from samples of many files."""

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return sum(block.rows for block in self.blocks)
