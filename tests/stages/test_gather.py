"""Gathering: every item once, in a shape that holds it, and no way to run the left-overs with fewer slots."""

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages.gather import gather

LADDER = Ladder((Shape(4, 3), Shape(3, 8), Shape(2, 17)))

many_lengths = st.lists(st.integers(0, 17), max_size=40)


def gather_lists(lengths, ladder=LADDER, spills=False):
    """Shape index and items of each batch."""
    batches = gather(np.array(lengths, np.int32), ladder, spills=spills)
    return [(batch.index, batch.picks.tolist()) for batch in batches]


def count_slots(batches, ladder=LADDER):
    return sum(ladder.shapes[index].slots for index, _ in batches)


@given(many_lengths, st.booleans())
def test_every_item_is_once_in_a_batch_that_holds_it(lengths, spills):
    batches = gather_lists(lengths, spills=spills)

    assert sorted(pick for _, picks in batches for pick in picks) == list(range(len(lengths)))
    for index, picks in batches:
        shape = LADDER.shapes[index]
        assert 1 <= len(picks) <= shape.batch_size
        assert max(lengths[pick] for pick in picks) <= shape.sequence_length
    indexes = [index for index, _ in batches]
    assert indexes == sorted(indexes, reverse=True)


@given(many_lengths)
def test_without_spilling_an_item_is_in_the_shortest_shape_that_holds_it(lengths):
    for index, picks in gather_lists(lengths):
        shortest = {
            min(i for i, s in enumerate(LADDER.shapes) if s.sequence_length >= lengths[p]) for p in picks
        }
        assert shortest == {index}


@given(many_lengths)
def test_left_overs_take_the_fewest_slots_that_any_number_of_batches_could(lengths):
    edges = [shape.sequence_length for shape in LADDER.shapes]
    own = [
        sum(floor < length <= edge for length in lengths)
        for floor, edge in zip([-1, *edges], edges, strict=False)
    ]
    most = [-(-len(lengths) // shape.batch_size) for shape in LADDER.shapes]

    def holds(runs):
        """Whether so many batches hold everything, each item in its own shape or a longer one."""
        waiting = 0
        for count, run, shape in zip(own, runs, LADDER.shapes, strict=True):
            waiting = max(0, waiting + count - run * shape.batch_size)
        return waiting == 0

    least = min(
        sum(run * shape.slots for run, shape in zip(runs, LADDER.shapes, strict=True))
        for runs in product(*(range(count + 1) for count in most))
        if holds(runs)
    )
    assert count_slots(gather_lists(lengths, spills=True)) == least
    assert count_slots(gather_lists(lengths)) >= least


def test_left_overs_that_fit_the_next_shape_go_there():
    lengths = [3, 3, 3, 3, 3, 8, 8]

    assert gather_lists(lengths) == [(1, [5, 6]), (0, [0, 1, 2, 3]), (0, [4])]
    assert gather_lists(lengths, spills=True) == [(1, [4, 5, 6]), (0, [0, 1, 2, 3])]


def test_items_of_a_shape_stay_in_their_order():
    assert gather_lists([1, 17, 4, 1, 9, 17, 3, 2, 1]) == [
        (2, [1, 4]),
        (2, [5]),
        (1, [2]),
        (0, [0, 3, 6, 7]),
        (0, [8]),
    ]


def test_nothing_is_no_batch():
    assert gather_lists([], spills=True) == gather_lists([]) == []
