"""Shapes: each row by its own length alone, and nothing cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.shapes import Ladder, Shape


def make_ladder(*edges):
    return Ladder(tuple(Shape(4, edge) for edge in edges))


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
        ladder.edges[index] == min(edge for edge in (5, 16, 37) if edge >= length)
        for index, length in zip(alone, lengths, strict=True)
    )


def test_a_length_beyond_the_longest_shape_is_an_error_and_not_cut():
    with pytest.raises(ValueError, match="38 tokens do not fit the longest shape, 37"):
        make_ladder(5, 37).choose(np.array([3, 38], np.int32))


def test_a_shape_says_what_it_is():
    assert (str(Shape(4, 48)), Shape(4, 48).slots, make_ladder(8, 48).max_length) == ("4x48", 192, 48)
