"""Ways to open a path, cut its inventory anywhere, and read the pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from batchneuron.sources import Inventory, ShardRows, Slice, Source, open_source
from batchneuron.spec.sections import InputSpec


def open_path(path: object, **words: Any) -> Source:
    return open_source(InputSpec(path=str(path), **words))


def cut(inventory: Inventory, lo: int, hi: int) -> list[Slice]:
    """The slices that hold the rows from ordinal `lo` to `hi`."""
    slices = []
    first = 0
    for listed in inventory.files:
        start, stop = max(lo - first, 0), min(hi - first, listed.rows)
        first += listed.rows
        if start < stop:
            block = next(b for b in listed.blocks if b.row_lo <= start < b.row_lo + b.rows)
            slices.append(Slice(listed.file, start, stop, block.row_lo, block.position, block.line))
    return slices


def read_all(source: Source, columns: Sequence[str] | None = None) -> ShardRows:
    """All rows, in one go."""
    inventory = source.inventory()
    names = inventory.schema.names if columns is None else columns
    reader = source.open_reader(pa.schema([inventory.schema.field(name) for name in names]))
    try:
        return reader.read(cut(inventory, 0, inventory.rows))
    finally:
        reader.close()


def read_path(path: object, **words: Any) -> list[dict[str, Any]]:
    return read_all(open_path(path, **words)).table.to_pylist()


def read_column(path: object, column: str, **words: Any) -> list[Any]:
    return read_all(open_path(path, **words), [column]).table.column(column).to_pylist()


def rejected(rows: ShardRows) -> dict[int, str]:
    """Row and message of each rejection."""
    return {rejection.row: rejection.message for rejection in rows.rejections}
