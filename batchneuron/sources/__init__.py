"""Datasets in: files of four formats, local or in S3, and whatever `datasets` opens.

`open_source` turns the `input` section of a spec into a `Source` (see `source.py`, the seam). What
happens behind it, in the order the data moves: `listing` finds files, a format (`parquet`, `jsonl`,
`csv`, `arrow`) inventories them, and `reader` reads slices of them with the format's cursor.
"""

from batchneuron.sources.open import open_source
from batchneuron.sources.source import (
    Block,
    FileId,
    FileInventory,
    Inventory,
    Reader,
    ShardRows,
    Slice,
    Source,
)

__all__ = [
    "Block",
    "FileId",
    "FileInventory",
    "Inventory",
    "Reader",
    "ShardRows",
    "Slice",
    "Source",
    "open_source",
]
