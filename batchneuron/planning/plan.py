"""The plan: which rows make a shard, and the shapes they run in.

Pure. Shard boundaries depend on the inventory and the spec alone, never on the number of workers, so
that any machine cuts the same shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import pyarrow as pa
from pydantic import TypeAdapter

from batchneuron.planning.forecast import Forecast
from batchneuron.planning.shapes import Ladder
from batchneuron.sources.source import Block, FileId, Inventory, SkippedFile, Slice

MIN_SHARD_ROWS = 4_096  # enough rows to fill the batches of eight shapes
MAX_SHARD_ROWS = 262_144  # tokens and predictions of so many, three times over, are in a worker's memory
SHARD_S = 40.0
"""What one core should take for a shard: three in hand are done within a spot notice of two minutes, and
docs/scale.md has the simulation of shorter and longer ones."""
LEAST_SHARDS = 256
"""Eight for each core of a trn1.32xlarge, four of a trn2.48xlarge, if there are rows enough."""
MAX_SHARDS = 100_000
_PREDICTED_ROW_BYTES = 4_096
MAX_PART_BYTES = 256 << 20
MAX_SHARD_BYTES = 64 << 20  # a shard is held in memory, three at a time in a worker


@dataclass(frozen=True, slots=True)
class Shard:
    """A contiguous range of source rows: the unit of work, of resume, and one output file."""

    index: int
    row_lo: int
    """Ordinal of the first row."""
    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        """Rows in this shard."""
        return sum(piece.rows for piece in self.slices)

    @property
    def row_hi(self) -> int:
        """One past the ordinal of the last row."""
        return self.row_lo + self.rows


Calibration = Mapping[str, tuple[float, ...]]
"""What a task measured on a sample, by name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered shards, the shapes, and what they are expected to cost."""

    shards: tuple[Shard, ...]
    ladder: Ladder
    tokens_per_row: float
    """Mean over the sample; 0 when nothing was sampled."""
    forecast: Forecast
    """Padding, as the sample predicts it."""
    calibration: Calibration | None = None
    """For tasks that quantise."""
    skipped: tuple[SkippedFile, ...] = ()
    """Damaged files that the run does without."""

    @property
    def rows(self) -> int:
        """Rows in all shards."""
        return self.shards[-1].row_hi if self.shards else 0


def size_shards(inventory: Inventory, wished: int | None, row_s: float = 0.0) -> int:
    """Rows per shard: as wished, or `SHARD_S` seconds of work, within what memory and a part may hold.

    Args:
        inventory: the rows that there are.
        wished: what the spec says; None: nothing.
        row_s: seconds that a core is expected to take for a row; 0: not known.
    """
    if wished is not None:
        return wished
    rows = max(1, inventory.rows)
    row_bytes = sum(block.size_bytes for file in inventory.files for block in file.blocks) / rows
    by_bytes = min(MAX_SHARD_BYTES / max(1.0, row_bytes), MAX_PART_BYTES / (_PREDICTED_ROW_BYTES + row_bytes))
    by_time = min(MAX_SHARD_ROWS, SHARD_S / row_s) if row_s > 0 else MAX_SHARD_ROWS
    by_rows = max(MIN_SHARD_ROWS, min(by_time, rows // LEAST_SHARDS))
    return max(1, int(min(by_rows, by_bytes)), -(-rows // MAX_SHARDS))


def cap_shard_rows(inventory: Inventory, predictions: pa.Schema, tokens: int) -> int:
    """Rows whose part stays below 256 MiB if each has all the tokens it may have, uncompressed.

    Half of a shard more is allowed for, since `cut_shards` does not cut a block that is so large.
    """
    rows = max(1, inventory.rows)
    carried_bytes = sum(block.size_bytes for file in inventory.files for block in file.blocks) / rows
    predicted_bytes = sum(_measure(field.type, tokens) for field in predictions)
    return max(1, int(MAX_PART_BYTES / 1.5 / max(1.0, carried_bytes + predicted_bytes)))


def _measure(kind: pa.DataType, tokens: int) -> int:
    """Bytes of a row's value, as far as its type tells; a list of vectors has one for each token."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size * _measure(kind.value_type, tokens))
    if pa.types.is_list(kind) and pa.types.is_fixed_size_list(kind.value_type):
        return tokens * _measure(kind.value_type, tokens)
    return max(1, kind.bit_width // 8) if pa.types.is_primitive(kind) else 0


def expect_part_bytes(inventory: Inventory, shard_rows: int) -> int:
    """About how large a part will be: its rows as they are read, and 4 KiB each for what is predicted.

    4 KiB is a vector of 1,024 floats. Compression is not counted on, which makes most parts far smaller;
    nor is more than 256 MiB, which is what a part should not exceed.
    """
    total_bytes = sum(block.size_bytes for file in inventory.files for block in file.blocks)
    rows = min(shard_rows, inventory.rows)
    return min(MAX_PART_BYTES, rows * (_PREDICTED_ROW_BYTES + total_bytes // max(1, inventory.rows)))


def cut_shards(inventory: Inventory, shard_rows: int, limit: int | None = None) -> tuple[Shard, ...]:
    """Shards of about `shard_rows` rows, in row order.

    A block that fits a shard is never cut, so no block is decoded for two shards; one of more than one
    and a half shards is cut into equal ones, which a reader streams. With no rows at all there is one
    empty shard: its part carries the schema.
    """
    shards: list[Shard] = []
    pending: list[Slice] = []
    row_lo, held = 0, 0

    def flush() -> None:
        nonlocal row_lo, held, pending
        if pending:
            shards.append(Shard(len(shards), row_lo, tuple(pending)))
            row_lo, held, pending = row_lo + held, 0, []

    for file, block in _iter_blocks(inventory, limit):
        if held + block.rows > shard_rows:
            flush()
        if 2 * block.rows <= 3 * shard_rows:
            pending = _append(pending, _slice(file, block, 0, block.rows))
            held += block.rows
            continue
        for lo, hi in _even_ranges(block.rows, -(-block.rows // shard_rows)):
            pending, held = [_slice(file, block, lo, hi)], hi - lo
            flush()
    flush()
    return tuple(shards) or (Shard(0, 0, ()),)


def _iter_blocks(inventory: Inventory, limit: int | None) -> Iterator[tuple[FileId, Block]]:
    left = inventory.rows if limit is None else limit
    for file in inventory.files:
        for block in file.blocks:
            if left <= 0:
                return
            rows = min(block.rows, left)
            left -= rows
            if rows:
                yield file.file, replace(block, rows=rows)


def _even_ranges(rows: int, pieces: int) -> Iterator[tuple[int, int]]:
    for piece in range(pieces):
        yield rows * piece // pieces, rows * (piece + 1) // pieces


def _slice(file: FileId, block: Block, lo: int, hi: int) -> Slice:
    return Slice(file, block.row_lo + lo, block.row_lo + hi, block.row_lo, block.position, block.line)


def _append(pending: list[Slice], piece: Slice) -> list[Slice]:
    """The slices with one more, joined to the last where it continues the same file."""
    if pending and pending[-1].file == piece.file and pending[-1].row_hi == piece.row_lo:
        last = pending[-1]
        return [*pending[:-1], replace(last, row_hi=piece.row_hi)]
    return [*pending, piece]


def head_slices(shard: Shard, rows: int) -> tuple[Slice, ...]:
    """The slices of a shard's first rows."""
    pieces: list[Slice] = []
    for piece in shard.slices:
        if rows <= 0:
            break
        pieces.append(replace(piece, row_hi=min(piece.row_hi, piece.row_lo + rows)))
        rows -= pieces[-1].rows
    return tuple(pieces)


def sample_shards(shards: Sequence[Shard], most: int) -> tuple[Shard, ...]:
    """At most `most` shards, evenly spread from the first to the last."""
    if len(shards) <= most or most < 2:
        return tuple(shards[:most])
    return tuple(shards[i * (len(shards) - 1) // (most - 1)] for i in range(most))


def plan_to_json(plan: Plan) -> bytes:
    """Canonical JSON of the plan: the same plan gives the same bytes."""
    return _adapter().dump_json(plan)


def plan_from_json(text: bytes) -> Plan:
    """The plan that `plan_to_json` wrote."""
    return _adapter().validate_json(text)


@cache
def _adapter() -> TypeAdapter[Plan]:
    """Building one takes longer than reading a small plan."""
    return TypeAdapter(Plan)
