"""Encode: the rows of a shard to items, and the rows that cannot be predicted set aside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchneuron.planning.plan import Shard
from batchneuron.rejection import Rejection
from batchneuron.sources.source import ShardRows
from batchneuron.stages.columns import Columns
from batchneuron.stages.items import Items
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks.task import Encoder

MAX_TEXT_BYTES = 8 << 20  # millions of tokens, each of which a tokenizer keeps as an object


@dataclass(frozen=True, slots=True)
class EncodedShard:
    """R rows of a shard, of which A are accepted and have items."""

    shard: Shard
    kept: pa.Table
    """The carried columns of all R rows."""
    accepted: NDArray[np.int64]
    """Places of the accepted rows: [A], ascending"""
    items: Items
    """`items.rows` counts accepted rows, 0 to A - 1."""
    truncated: NDArray[np.bool_]
    """Rows that were cut to fit: [R]"""
    rejections: tuple[Rejection, ...]


def encode(
    shard: Shard,
    rows: ShardRows,
    columns: Columns,
    encoder: Encoder,
    limit: Limit,
    known: Sequence[Rejection] = (),
) -> EncodedShard:
    """The shard's items; a row with a null input, or one the reader could not parse, gets none.

    Args:
        shard: what is encoded.
        rows: what was read of it.
        columns: which of the columns are inputs, and which are carried.
        encoder: the task's.
        limit: how long an item may be.
        known: rows that must not be touched, and why.
    """
    kept = pa.table({output: rows.table[column] for output, column in columns.keep.items()})
    chosen = choose(rows, columns, known)
    rejections, candidates = chosen.rejections, chosen.candidates
    made = encoder.encode(chosen.inputs, limit)
    for rejection in made.rejections:
        row = int(candidates[rejection.row])
        rejections[row] = replace(rejection, row=row)
    told = {rejection.row for rejection in (*known, *rows.rejections)}
    found = [rejection for row, rejection in rejections.items() if row not in told]
    for rejection, place in zip(found, _name_places(shard, found, rows), strict=True):
        rejections[rejection.row] = replace(rejection, message=f"{place}{rejection.message}")
    truncated = np.zeros(shard.rows, dtype=np.bool_)
    truncated[candidates] = made.truncated
    present, item_rows = np.unique(made.items.rows, return_inverse=True)
    return EncodedShard(
        shard=shard,
        kept=kept,
        accepted=candidates[present],
        items=replace(made.items, rows=item_rows.astype(np.int64)),
        truncated=truncated,
        rejections=tuple(rejections.values()),
    )


def _name_places(shard: Shard, rejections: Sequence[Rejection], rows: ShardRows) -> Iterator[str]:
    """Where rejected rows stand, in the readers' words; no word for a row that is in no file."""
    ends = np.cumsum([piece.rows for piece in shard.slices])
    for rejection in rejections:
        number = int(np.searchsorted(ends, rejection.row, side="right"))
        piece = shard.slices[number]
        line = 0 if rows.lines is None else int(rows.lines[rejection.row])
        record = piece.row_hi - int(ends[number]) + rejection.row + 1
        place = f"line {line}" if line else f"record {record}"
        yield f"{piece.file.uri}: {place}: " if piece.file.uri else ""


def slice_rows(rows: ShardRows, lo: int, hi: int, known: Sequence[Rejection]) -> ShardRows:
    """Some of the rows, counted from 0; those that are known join the rejected."""
    rejections = {rejection.row: rejection for rejection in (*rows.rejections, *known)}
    return ShardRows(
        rows.table.slice(lo, hi - lo),
        tuple(replace(each, row=row - lo) for row, each in rejections.items() if lo <= row < hi),
    )


def encode_in_vain(rows: ShardRows, columns: Columns, encoder: Encoder, limit: Limit) -> None:
    """Encode rows and throw it away, to see whether a worker lives through it."""
    chosen = choose(rows, columns)
    if len(chosen.candidates):
        encoder.encode(chosen.inputs, limit)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Rows that can be encoded, as far as is known before."""

    inputs: pa.Table
    candidates: NDArray[np.int64]
    """Their places among all rows"""
    rejections: dict[int, Rejection]
    """The others, by place"""


def choose(rows: ShardRows, columns: Columns, known: Sequence[Rejection] = ()) -> Chosen:
    """The rows that a tokenizer may be given; not those that are known, unreadable, null or far too long."""
    inputs = columns.pick_inputs(rows.table)
    rejections = {rejection.row: rejection for rejection in (*known, *rows.rejections)}
    for name in inputs.column_names:
        for row in np.flatnonzero(inputs[name].is_null().to_numpy()).tolist():
            rejections.setdefault(row, Rejection(row, "null_input", f"'{name}' is null"))
        for row, size in _find_oversized(inputs[name]):
            what = f"'{name}' has {size:,} bytes, and {MAX_TEXT_BYTES:,} are taken"
            rejections.setdefault(row, Rejection(row, "too_long", what))
    count = rows.table.num_rows
    candidates = np.setdiff1d(np.arange(count), np.fromiter(rejections, np.int64, len(rejections)))
    return Chosen(inputs.take(pa.array(candidates)) if rejections else inputs, candidates, rejections)


def _find_oversized(column: pa.ChunkedArray) -> Iterator[tuple[int, int]]:
    """Rows with a text that no tokenizer should be given, and its bytes."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return
    sizes = pc.binary_length(column)
    if (pc.max(sizes).as_py() or 0) > MAX_TEXT_BYTES:
        for row in np.flatnonzero(pc.greater(sizes, MAX_TEXT_BYTES).fill_null(False).to_numpy()).tolist():
            yield row, sizes[row].as_py()
