"""Encode: the rows of a shard to items, and the rows that cannot be predicted set aside."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.columns import Columns
from batchneuron.items import Items
from batchneuron.plan import Shard
from batchneuron.rejection import Rejection
from batchneuron.sources.source import ShardRows
from batchneuron.tasks.task import Encoder
from batchneuron.tokenize import Limit


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


def encode(shard: Shard, rows: ShardRows, columns: Columns, encoder: Encoder, limit: Limit) -> EncodedShard:
    """The shard's items; a row with a null input, or one the reader could not parse, gets none."""
    kept = pa.table({output: rows.table[column] for output, column in columns.keep.items()})
    inputs = columns.pick_inputs(rows.table)
    rejections = {rejection.row: rejection for rejection in rows.rejections}
    for name in inputs.column_names:
        for row in np.flatnonzero(inputs[name].is_null().to_numpy()).tolist():
            rejections.setdefault(row, Rejection(row, "null_input", f"'{name}' is null"))
    candidates = np.setdiff1d(np.arange(shard.rows), np.fromiter(rejections, np.int64, len(rejections)))
    made = encoder.encode(inputs.take(pa.array(candidates)) if rejections else inputs, limit)
    for rejection in made.rejections:
        row = int(candidates[rejection.row])
        rejections[row] = replace(rejection, row=row)
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
