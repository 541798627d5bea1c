"""Items: padding as a plain loop would do it, and rows folded from their items."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.stages.items import Items, OutputBatch, Outputs, Ragged, fold_mean
from tests.backends.arithmetic import make_items, make_ragged

sequences = st.lists(st.lists(st.integers(0, 99), max_size=7), min_size=1, max_size=8)


@given(sequences, st.data())
def test_padding_is_what_a_loop_would_do(rows, data):
    picks = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=10))
    longest = max(len(rows[pick]) for pick in picks)
    length = data.draw(st.integers(max(1, longest), 9))

    padded = make_ragged(rows).pad(np.array(picks), length, fill=-1)

    assert padded.dtype == np.int64
    assert padded.tolist() == [rows[pick] + [-1] * (length - len(rows[pick])) for pick in picks]


@given(sequences)
def test_an_input_is_padded_with_its_own_fill_and_the_mask_follows_the_lengths(rows):
    items = make_items(rows, fill=7)
    picks = np.arange(len(rows))[::-1]

    ids, types, mask = (
        items.make_input(name, picks, 8) for name in ("input_ids", "token_type_ids", "attention_mask")
    )

    assert mask.tolist() == [[1] * len(row) + [0] * (8 - len(row)) for row in rows[::-1]]
    assert ids.tolist() == [row + [7] * (8 - len(row)) for row in rows[::-1]]
    assert types.tolist() == [[0] * 8] * len(rows)
    assert {array.dtype for array in (ids, types, mask)} == {np.dtype(np.int64)}
    assert len(items) == len(rows)


def test_an_input_that_the_items_do_not_have_is_zeros():
    items = Items(np.arange(2), np.array([1, 2], np.int32), {"input_ids": make_ragged([[1], [2, 3]])}, {})

    assert items.make_input("token_type_ids", np.array([1, 0, 0]), 4).tolist() == [[0] * 4] * 3
    assert items.make_input("input_ids", np.array([1, 0, 0]), 2).tolist() == [[2, 3], [1, 0], [1, 0]]


def make_windows(counts, lengths):
    """Items of rows that have so many windows each."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return Items(rows.astype(np.int64), np.array(lengths, np.int32), {}, {})


def test_a_mean_is_weighted_by_tokens():
    items = make_windows([1, 2, 1], [5, 3, 1, 2])
    values = np.array([[1, 2], [4, 8], [8, 0], [3, 3]], np.float32)

    folded = fold_mean(values, items, 3)

    assert folded.dtype == np.float32
    assert folded.tolist() == [[1, 2], [(4 * 3 + 8 * 1) / 4, (8 * 3) / 4], [3, 3]]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), st.data())
def test_a_row_of_one_item_keeps_its_bits(counts, data):
    total = sum(counts)
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=total, max_size=total))
    floats = st.floats(-(2.0**99), 2.0**99, width=32)
    values = np.array(data.draw(st.lists(floats, min_size=total, max_size=total)), np.float32)[:, None]
    items = make_windows(counts, lengths)

    folded = fold_mean(values, items, len(counts))

    for row, count in enumerate(counts):
        places = np.flatnonzero(items.rows == row)
        if count == 1:
            assert folded[row].tobytes() == values[places[0]].tobytes()
        else:
            expected = np.average(values[places].astype(np.float64), axis=0, weights=items.lengths[places])
            assert folded[row] == pytest.approx(expected, rel=1e-6, abs=1e-30)


def test_a_mean_takes_any_number_of_axes():
    items = make_windows([2, 1], [1, 1, 1])
    values = np.arange(12, dtype=np.float32).reshape(3, 2, 2)

    assert fold_mean(values, items, 2).tolist() == [[[2, 3], [4, 5]], [[8, 9], [10, 11]]]


@given(st.permutations(range(11)), st.integers(1, 5))
def test_stacking_restores_the_order_of_items(order, batch_size):
    picks = [np.array(order[start : start + batch_size]) for start in range(0, len(order), batch_size)]
    batches = tuple(
        OutputBatch(chosen, (chosen.astype(np.float32), np.stack([chosen, -chosen], axis=1)))
        for chosen in picks
    )
    outputs = Outputs(11, batches)

    assert outputs.stack(0).tolist() == list(range(11))
    assert outputs.stack(0).dtype == np.float32
    assert outputs.stack(1).tolist() == [[item, -item] for item in range(11)]


def test_ragged_without_any_value():
    empty = Ragged(np.zeros(0, np.int32), np.array([0, 0, 0]))

    assert empty.pad(np.array([0, 1]), 3, fill=9).tolist() == [[9, 9, 9], [9, 9, 9]]
