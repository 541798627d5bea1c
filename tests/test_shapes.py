"""The ladder: as cheap as an exhaustive search, the limit always in it, and each row by its own length."""

from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron import shapes
from batchneuron.shapes import MAX_BATCH_ROWS, MAX_SHAPES, Ladder, LadderRequest, Shape, plan_ladder


def make_ladder(*edges):
    return Ladder(tuple(Shape(4, edge) for edge in edges))


def edges_of(ladder):
    return [shape.sequence_length for shape in ladder.shapes]


def count_slots(lengths, edges):
    return sum(min(edge for edge in edges if edge >= length) for length in lengths)


def search_all(lengths, limit, most):
    """Fewest slots of any ladder over the even lengths and the limit."""
    grid = range(2, limit, 2)
    ladders = ([*chosen, limit] for count in range(most) for chosen in combinations(grid, count))
    return min(count_slots(lengths, edges) for edges in ladders)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 20), st.integers(1, 4))
def test_no_ladder_of_as_many_shapes_wastes_less(lengths, limit, most):
    with patch.object(shapes, "MAX_SHAPES", most):
        ladder = plan_ladder(np.array(lengths, np.int32), LadderRequest(limit))

    clipped = [min(length, limit) for length in lengths]
    assert len(ladder.shapes) <= most
    assert count_slots(clipped, edges_of(ladder)) == search_all(clipped, limit, most)


@given(st.lists(st.integers(1, 900), max_size=40), st.integers(1, 700))
def test_the_limit_is_the_longest_shape_whatever_the_sample_missed(lengths, limit):
    edges = edges_of(plan_ladder(np.array(lengths, np.int32), LadderRequest(limit)))

    assert edges[-1] == limit
    assert edges == sorted(set(edges))
    assert len(edges) <= MAX_SHAPES


def test_long_texts_get_multiples_of_eight_and_as_many_shapes_as_there_may_be():
    lengths = np.arange(70, 509, 3, dtype=np.int32)

    edges = edges_of(plan_ladder(lengths, LadderRequest(510)))

    assert len(edges) == MAX_SHAPES
    assert all(edge % 8 == 0 for edge in edges[:-1])


def test_nothing_sampled_gives_the_limit_alone():
    assert edges_of(plan_ladder(np.zeros(0, np.int32), LadderRequest(77))) == [77]


def test_a_ladder_of_the_user_is_taken_as_it_is():
    lengths = np.array([3, 4, 5, 400], np.int32)

    ladder = plan_ladder(lengths, LadderRequest(512, sequence_lengths=(100, 7, 100), batch_size=5))

    assert ladder.shapes == (Shape(5, 7), Shape(5, 100))


@pytest.mark.parametrize(("edge", "rows"), [(8, MAX_BATCH_ROWS), (48, 42), (512, 4), (2048, 1), (4096, 1)])
def test_a_batch_holds_as_many_rows_as_fill_the_slots(edge, rows):
    request = LadderRequest(edge, sequence_lengths=(edge,), batch_slots=2048)

    assert plan_ladder(np.zeros(0, np.int32), request).shapes == (Shape(rows, edge),)


@given(st.lists(st.integers(0, 37), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_a_row_meets_the_same_shape_whoever_its_neighbours_are(lengths, random):
    ladder = make_ladder(5, 16, 37)
    order = random.sample(range(len(lengths)), len(lengths))

    together = ladder.choose(np.array(lengths, np.int32))
    alone = [int(ladder.choose(np.array([length], np.int32))[0]) for length in lengths]
    shuffled = ladder.choose(np.array([lengths[i] for i in order], np.int32))

    assert together.tolist() == alone
    assert shuffled.tolist() == [alone[i] for i in order]
    assert all(
        edges_of(ladder)[index] == min(edge for edge in (5, 16, 37) if edge >= length)
        for index, length in zip(alone, lengths, strict=True)
    )


def test_a_length_beyond_the_longest_shape_is_an_error_and_not_cut():
    with pytest.raises(ValueError, match="38 tokens do not fit the longest shape, 37"):
        make_ladder(5, 37).choose(np.array([3, 38], np.int32))


def test_padding_share_by_hand():
    ladder = make_ladder(8, 16)

    assert ladder.padding_share(np.array([8, 4, 10], np.int32)) == 1 - 22 / (8 + 8 + 16)
    assert ladder.padding_share(np.array([8, 16], np.int32)) == 0
    assert ladder.padding_share(np.array([16, 99], np.int32)) == 0  # the longer one is cut to 16
    assert ladder.padding_share(np.zeros(0, np.int32)) == 0


def test_a_shape_says_what_it_is():
    assert (str(Shape(4, 48)), Shape(4, 48).slots, make_ladder(8, 48).max_length) == ("4x48", 192, 48)
