"""Decoding: as many rows as the shard has, predictions and errors each in the right place."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.rejection import Rejection
from batchneuron.stages.columns import ERROR_TYPE
from batchneuron.stages.decode import decode, output_schema
from batchneuron.stages.encode import EncodedShard
from batchneuron.stages.execute import execute
from batchneuron.stages.items import fold_mean
from batchneuron.tasks.task import Decoded, reject_rows
from tests.backends.arithmetic import load_all, make_items
from tests.stages.test_encode import make_shard

LADDER = Ladder((Shape(4, 3), Shape(2, 8)))
VECTOR = pa.list_(pa.float32(), 2)


@dataclass
class SumTask:
    """Predicts the mean over a row's items of the sum of their tokens; 13 and NaN are no predictions."""

    schema = pa.schema([("total", pa.float32()), ("pair", VECTOR)])

    def decode(self, items, rows, outputs):
        totals = fold_mean(outputs.stack(0), items, rows)
        flat = pa.array(np.repeat(totals, 2))
        pairs = pa.FixedSizeListArray.from_arrays(flat, 2)
        rejections = reject_rows((totals == 13) | np.isnan(totals), "zero_norm", "unlucky")
        return Decoded(pa.table([totals, pairs], schema=self.schema), rejections)


def decode_rows(rows, kept=None):
    """Decode a shard whose rows are lists of items, or the code they were rejected with."""
    accepted = [row for row, items in enumerate(rows) if not isinstance(items, str)]
    tokens = [item for row in accepted for item in rows[row]]
    owners = [place for place, row in enumerate(accepted) for _ in rows[row]]

    def answer(ids, mask):
        sums = (ids * mask).sum(axis=1).astype(np.float32)
        return (np.where(sums == 99, np.nan, sums).astype(np.float32),)

    items = make_items(tokens, owners)
    encoded = EncodedShard(
        shard=make_shard(len(rows), row_lo=1000),
        kept=pa.table({"key": pa.array(range(len(rows)), pa.int8())}) if kept is None else kept,
        accepted=np.array(accepted, np.int64),
        items=items,
        truncated=np.arange(len(rows)) % 3 == 1,
        rejections=tuple(
            Rejection(row, code, f"{code}!") for row, code in enumerate(rows) if isinstance(code, str)
        ),
    )
    executed = execute(items, LADDER, load_all(LADDER, answer), None, lambda tokens: None)
    return decode(encoded, executed, SumTask())


def test_predictions_and_errors_stand_where_their_rows_are():
    table = decode_rows(["null_input", [[1, 2]], [[99]], [[4], [6]], "too_long", [[13]], [[5], [99]], [[7]]])

    assert table["_row"].to_pylist() == list(range(1000, 1008))
    assert table["key"].to_pylist() == list(range(8))
    assert table["total"].to_pylist() == [None, 3, None, 5, None, None, None, 7]
    assert table["pair"].to_pylist() == [None, [3, 3], None, [5, 5], None, None, None, [7, 7]]
    assert [error and error["code"] for error in table["_error"].to_pylist()] == [
        "null_input",
        None,
        "non_finite",
        None,
        "too_long",
        "zero_norm",
        "non_finite",
        None,
    ]
    assert table["_error"][0].as_py() == {"code": "null_input", "message": "null_input!"}
    assert table["_truncated"].to_pylist() == [row % 3 == 1 for row in range(8)]


row = st.sampled_from(["null_input", "bad_record"]) | st.lists(
    st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=3
)


@given(st.lists(row, max_size=11))
def test_a_row_has_a_prediction_or_an_error_and_never_both(rows):
    table = decode_rows(rows)

    assert table.num_rows == len(rows)
    for given_row, total, error in zip(
        rows, table["total"].to_pylist(), table["_error"].to_pylist(), strict=True
    ):
        if isinstance(given_row, str):
            assert (total, error["code"]) == (None, given_row)
            continue
        weighted = sum(sum(item) * len(item) for item in given_row) / sum(map(len, given_row))
        assert (total is None) == (error is not None)
        assert total is None or abs(total - weighted) < 1e-4


def test_a_row_of_one_item_among_rows_that_are_not_finite_is_kept():
    table = decode_rows([[[99]]] * 5 + [[[1]]] + [[[99]]] * 5)

    assert table["total"].to_pylist() == [None] * 5 + [1.0] + [None] * 5


@pytest.mark.case(39)
def test_all_rows_rejected():
    table = decode_rows(["null_input"] * 5)

    assert table["total"].to_pylist() == [None] * 5
    assert table["pair"].to_pylist() == [None] * 5
    assert table["_error"].null_count == 0
    assert table.schema == output_schema(pa.schema([("key", pa.int8())]), SumTask.schema)


@pytest.mark.case(39)
def test_no_rows_at_all_carry_the_schema():
    table = decode_rows([])

    assert table.num_rows == 0
    assert table.schema == output_schema(pa.schema([("key", pa.int8())]), SumTask.schema)
    assert table.schema.names == ["_row", "key", "total", "pair", "_truncated", "_error"]
    assert table.schema.field("_error").type == ERROR_TYPE


def test_kept_columns_keep_their_types_and_values():
    kept = pa.table(
        {
            "day": pa.array([1, None, 3], pa.date32()),
            "price": pa.array([None, 2, 3], pa.decimal128(10, 2)),
            "tags": pa.array([["a"], [], None], pa.list_(pa.large_string())),
            "color": pa.array(["red", "red", None]).dictionary_encode(),
            "when": pa.array([1, 2, 3], pa.timestamp("us", "UTC")),
        }
    )

    for rows in ([[[1]], [[2]], [[3]]], [[[1]], "null_input", [[3]]]):
        assert decode_rows(rows, kept).select(kept.column_names).equals(kept)


def test_a_shard_in_several_chunks_and_without_kept_columns():
    chunks = pa.chunked_array([[1, 2], [], [3]], pa.int64())

    assert decode_rows([[[1]]] * 3, pa.table({"key": chunks}))["key"].to_pylist() == [1, 2, 3]
    assert decode_rows([[[1]]] * 3, pa.table({})).column_names == [
        "_row",
        "total",
        "pair",
        "_truncated",
        "_error",
    ]
