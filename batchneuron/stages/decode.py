"""Decode: what the device gave, to the table that becomes a part.

Every row of the shard is in it, in order: predicted, or with nulls and the reason in `_error`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.rejection import Rejection
from batchneuron.stages.columns import ERROR, ERROR_TYPE, ROW, TRUNCATED
from batchneuron.stages.encode import EncodedShard
from batchneuron.stages.execute import Executed
from batchneuron.tasks.task import Task


def output_schema(kept: pa.Schema, predictions: pa.Schema) -> pa.Schema:
    """Columns of a part, in order."""
    return pa.schema(
        [
            pa.field(ROW, pa.int64(), nullable=False),
            *kept,
            *predictions,
            pa.field(TRUNCATED, pa.bool_(), nullable=False),
            pa.field(ERROR, ERROR_TYPE),
        ]
    )


def decode(encoded: EncodedShard, executed: Executed, task: Task) -> pa.Table:
    """The part's table: as many rows as the shard, the columns of `output_schema`."""
    rows, accepted = encoded.shard.rows, encoded.accepted
    rejections = list(encoded.rejections)
    columns = task.schema.empty_table()
    if len(accepted):
        decoded = task.decode(encoded.items, len(accepted), executed.outputs)
        columns = decoded.columns
        rejections += _find_non_finite(encoded, executed)
        known = {rejection.row for rejection in rejections}
        late = (replace(rejection, row=int(accepted[rejection.row])) for rejection in decoded.rejections)
        rejections += [rejection for rejection in late if rejection.row not in known]
    predictions = _spread(columns, accepted, rejections, rows)
    ordinals = np.arange(encoded.shard.row_lo, encoded.shard.row_hi, dtype=np.int64)
    schema = output_schema(encoded.kept.schema, task.schema)
    arrays = [
        pa.array(ordinals),
        *encoded.kept.columns,
        *predictions.columns,
        pa.array(encoded.truncated),
        _error_column(rejections, rows),
    ]
    return pa.table(arrays, schema=schema)


def _find_non_finite(encoded: EncodedShard, executed: Executed) -> list[Rejection]:
    broken = np.unique(encoded.items.rows[~executed.finite])
    return [
        Rejection(int(row), "non_finite", "the model gave NaN or infinity")
        for row in encoded.accepted[broken]
    ]


def _spread(
    columns: pa.Table, accepted: NDArray[np.int64], rejections: list[Rejection], rows: int
) -> pa.Table:
    """The predictions of accepted rows, at their places among all rows; null where rejected."""
    if not rejections:
        return columns
    places = np.full(rows, -1, dtype=np.int64)
    places[accepted] = np.arange(len(accepted))
    places[[rejection.row for rejection in rejections]] = -1
    return columns.take(pa.array(places, mask=places < 0))


def _error_column(rejections: list[Rejection], rows: int) -> pa.Array:
    values: list[dict[str, str] | None] = [None] * rows
    for rejection in rejections:
        values[rejection.row] = {"code": rejection.code, "message": rejection.message}
    return pa.array(values, ERROR_TYPE)
