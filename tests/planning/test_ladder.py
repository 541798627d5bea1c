"""The planner: as cheap as an exhaustive search, the limit always in it, and batches that get full."""

from dataclasses import replace
from itertools import combinations
from math import ceil, exp, lgamma, log
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.planning import ladder as planner
from batchneuron.planning.cost import ShapeCost
from batchneuron.planning.ladder import (
    MAX_BATCH_ROWS,
    MAX_SHAPES,
    LadderRequest,
    Sample,
    plan_ladder,
    plan_one_more,
    predict_s,
    predict_slots,
)
from batchneuron.planning.shapes import Shape

SLOTS_ONLY = ShapeCost(per_call_s=0.0, per_slot_s=1.0)
MANY = 10**6
"""Items of a shard in which every shape has so many rows that its last batch does not count."""


def make_sample(lengths, items=None, shards=1):
    return Sample(np.array(lengths, np.int32), len(lengths) if items is None else items, shards)


def edges_of(ladder):
    return [shape.sequence_length for shape in ladder.shapes]


def count_slots(lengths, edges):
    return sum(min(edge for edge in edges if edge >= length) for length in lengths)


def expect_batches(rows, batch_size):
    """E[ceil(X / batch_size)] for Poisson X, term by term."""
    if not rows:
        return 0.0
    most = int(rows + 12 * rows**0.5) + 20
    return sum(exp(x * log(rows) - rows - lgamma(x + 1)) * ceil(x / batch_size) for x in range(most))


def price(shapes, lengths, cost, floor=0):
    """Seconds that what is longer than `floor` takes, in a job of one shard of these lengths, on average."""
    total = 0.0
    for shape in shapes:
        rows = sum(floor < length <= shape.sequence_length for length in lengths)
        batches = expect_batches(rows, shape.batch_size)
        if rows == len(lengths):  # no chance in that
            batches = ceil(rows / shape.batch_size)
        total += cost.compile_s + batches * cost.call_s(shape.batch_size, shape.sequence_length)
        floor = shape.sequence_length
    return total


@settings(max_examples=60)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 20), st.integers(1, 4))
def test_no_ladder_of_as_many_shapes_has_fewer_slots(lengths, limit, most):
    clipped = [min(length, limit) for length in lengths]
    # A sample of everything, so that none is added for the missed; so many that fillers do not count.
    sample = make_sample(clipped * 50)
    with patch.object(planner, "MAX_BATCH_ROWS", 1):
        ladder = plan_ladder(sample, LadderRequest(limit, max_shapes=most, cost=SLOTS_ONLY))

    ladders = ([*chosen, limit] for count in range(most) for chosen in combinations(range(1, limit), count))
    assert len(ladder.shapes) <= most
    assert count_slots(clipped, edges_of(ladder)) == min(count_slots(clipped, edges) for edges in ladders)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=30),
    st.builds(
        ShapeCost,
        per_call_s=st.sampled_from([0.0, 1.0, 20.0]),
        per_slot_s=st.just(1.0),
        per_pair_s=st.sampled_from([0.0, 0.1]),
        compile_s=st.sampled_from([0.0, 5.0, 500.0]),
    ),
)
def test_no_lengths_and_batch_sizes_take_less_time(lengths, cost):
    limit, largest = 6, 4
    with patch.object(planner, "MAX_BATCH_ROWS", largest):
        ladder = plan_ladder(make_sample(lengths), LadderRequest(limit, max_shapes=3, cost=cost))

    least = float("inf")
    for count in range(3):
        for chosen in combinations(range(1, limit), count):
            # Shapes share nothing but their edges, so the best batch size of each is found alone.
            floor, total = 0, 0.0
            for edge in (*chosen, limit):
                sizes = range(1, largest + 1)
                total += min(price([Shape(size, edge)], lengths, cost, floor) for size in sizes)
                floor = edge
            least = min(least, total)
    assert price(ladder.shapes, lengths, cost) <= least * 1.01 + 1e-9


@given(st.lists(st.integers(1, 900), max_size=40), st.integers(1, 700))
def test_the_limit_is_the_longest_shape_whatever_the_sample_missed(lengths, limit):
    sample = make_sample([min(length, limit) for length in lengths], items=1000)
    edges = edges_of(plan_ladder(sample, LadderRequest(limit)))

    assert edges[-1] == limit
    assert edges == sorted(set(edges))
    assert len(edges) <= MAX_SHAPES


def test_long_texts_get_multiples_of_eight_and_as_many_shapes_as_there_may_be():
    ladder = plan_ladder(make_sample(range(70, 509, 3), MANY), LadderRequest(510))

    assert len(ladder.shapes) == MAX_SHAPES
    assert all(edge % 8 == 0 for edge in edges_of(ladder)[:-1])


def test_short_texts_get_lengths_of_their_own():
    ladder = plan_ladder(make_sample([4, 7, 9, 11, 12, 13, 15] * 99, MANY), LadderRequest(256))

    assert edges_of(ladder) == [4, 7, 9, 11, 12, 13, 15, 256]


def test_texts_of_a_model_for_long_ones_reach_its_limit():
    ladder = plan_ladder(make_sample([30, 600, 1500, 5000] * 99, MANY), LadderRequest(8192))

    assert len(ladder.shapes) == 5
    assert edges_of(ladder)[0] == 30
    assert all(
        edge <= 1.04 * length for edge, length in zip(edges_of(ladder), (30, 600, 1500, 5000), strict=False)
    )


def test_nothing_sampled_gives_the_limit_alone():
    assert plan_ladder(make_sample([], 0), LadderRequest(77)).shapes == (Shape(26, 77),)


def test_a_ladder_of_the_user_is_taken_as_it_is():
    request = LadderRequest(512, sequence_lengths=(100, 7, 100), batch_size=5)
    sample = make_sample([3, 4, 5, 100])

    assert plan_ladder(sample, request).shapes == (Shape(5, 7), Shape(5, 100))
    assert plan_one_more(plan_ladder(sample, request), sample, request) is None


@pytest.mark.parametrize(("edge", "rows"), [(8, MAX_BATCH_ROWS), (48, 42), (512, 4), (2048, 1), (4096, 1)])
def test_a_batch_that_gets_full_holds_as_many_rows_as_fill_the_slots(edge, rows):
    cost = ShapeCost(per_call_s=1.0, per_slot_s=0.001)
    request = LadderRequest(edge, sequence_lengths=(edge,), batch_slots=2048, cost=cost)

    assert plan_ladder(make_sample([edge] * 99, MANY), request).shapes == (Shape(rows, edge),)


@pytest.mark.parametrize(
    ("rows", "batch_size"), [(32, 32), (64, 64), (192, 64), (36, 12), (37, 1), (5, 1), (1024, 64)]
)
def test_items_of_one_length_fill_their_batches(rows, batch_size):
    """Images: how many of a shard meet the one shape is known; a batch that divides it has no filler."""
    cost = ShapeCost(per_call_s=0.0001, per_slot_s=1.0)
    ladder = plan_ladder(make_sample([1] * rows), LadderRequest(1, cost=cost))

    assert ladder.shapes == (Shape(batch_size, 1),)


def test_a_shape_that_few_rows_meet_gets_a_small_batch():
    lengths = [16] * 4000 + [128] * 2
    ladder = plan_ladder(make_sample(lengths), LadderRequest(256, cost=ShapeCost(0.01, 0.001)))

    sizes = {shape.sequence_length: shape.batch_size for shape in ladder.shapes}
    assert sizes[16] == MAX_BATCH_ROWS
    assert sizes[128] <= 3


def test_where_a_batch_need_not_be_full_few_rows_get_a_large_one():
    """Five rows: a call of 1 s, 0.1 s for each of the eight slots of each, 0.5 s since it is not full."""
    cost = ShapeCost(per_call_s=1.0, per_slot_s=0.1, partial_s=0.5)
    sample, request = make_sample([8] * 5), LadderRequest(8, sequence_lengths=(8,), cost=cost)
    ladder = plan_ladder(sample, request)

    assert ladder.shapes == (Shape(MAX_BATCH_ROWS, 8),)
    assert predict_slots(ladder, sample, request) == 40
    assert predict_s(ladder, sample, request) == pytest.approx(1.0 + 5 * 0.8 + 0.5, rel=1e-2)
    single = replace(request, batch_size=1)
    assert predict_s(plan_ladder(sample, single), sample, single) == pytest.approx(5 * 1.8)


def test_a_shape_more_must_save_what_its_partial_batches_cost():
    sample = Sample(np.array([8, 16] * 50, np.int32), items_per_shard=20.0, shards=100)

    def count_shapes(partial_s):
        cost = ShapeCost(per_call_s=1.0, per_slot_s=0.1, partial_s=partial_s)
        return len(plan_ladder(sample, LadderRequest(16, batch_size=64, cost=cost)).shapes)

    assert (count_shapes(1.0), count_shapes(20.0)) == (2, 1)


def test_what_the_sample_missed_costs_little():
    lengths = [16] * 4000
    ladder = plan_ladder(make_sample(lengths, MANY, shards=61), LadderRequest(512))

    assert [str(shape) for shape in ladder.shapes] == ["64x16", "4x512"]
    few = plan_ladder(make_sample(lengths, 4096, shards=61), LadderRequest(512))
    assert few.shapes[-1] == Shape(1, 512)


def test_compiling_pays_in_a_large_job_only():
    lengths, cost = np.arange(16, 257), ShapeCost(0.0002, 3e-6, 0.0, compile_s=60.0)
    request = LadderRequest(256, cost=cost)
    counts = [
        len(plan_ladder(make_sample(lengths, 16_384, shards), request).shapes) for shards in (1, 100, 10_000)
    ]

    assert counts[0] == 1 < counts[1] < counts[2] == MAX_SHAPES


def test_no_more_shapes_than_the_device_has_room_for():
    request = LadderRequest(256, max_shapes=3)

    assert len(plan_ladder(make_sample(range(16, 257), MANY), request).shapes) == 3


def test_where_nothing_can_be_compiled_what_is_ready_is_taken():
    cost = ShapeCost(0.0002, 3e-6, 0.0, compile_s=60.0)
    ready = frozenset({Shape(8, 256), Shape(16, 100)})
    sample = make_sample(np.arange(16, 200), 16_384, 10**6)
    able = LadderRequest(256, cost=cost, ready=ready)

    assert not set(plan_ladder(sample, able).shapes) <= ready
    assert set(plan_ladder(sample, replace(able, compiles=False)).shapes) == ready


def test_tomorrow_keeps_the_shapes_of_today_unless_others_save_more_than_compiling_them_costs():
    cost = ShapeCost(0.0002, 3e-6, 0.0, compile_s=60.0)
    today, tomorrow = np.arange(16, 200), np.arange(20, 220)
    first = plan_ladder(make_sample(today, 16_384, 1000), LadderRequest(256, cost=cost))
    alone = plan_ladder(make_sample(tomorrow, 16_384, 1000), LadderRequest(256, cost=cost))
    ready = LadderRequest(256, cost=cost, ready=frozenset(first.shapes))

    assert plan_ladder(make_sample(tomorrow, 16_384, 20), ready) == first
    grown = plan_ladder(make_sample(tomorrow, 16_384, 10**6), ready)
    assert set(grown.shapes) - set(first.shapes)
    assert len({shape.sequence_length for shape in grown.shapes}) == len(grown.shapes)
    assert alone != first


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.sets(st.builds(Shape, st.integers(1, 9), st.integers(1, 64)), max_size=5),
)
def test_what_is_ready_never_makes_a_job_take_longer(lengths, ready):
    cost = ShapeCost(1.0, 1.0, compile_s=40.0)

    def total(shapes, done):
        return price(shapes, lengths, cost) - cost.compile_s * sum(shape in done for shape in shapes)

    request = LadderRequest(64, max_shapes=4, cost=cost)
    without = plan_ladder(make_sample(lengths), request)
    with_ready = plan_ladder(
        make_sample(lengths), LadderRequest(64, max_shapes=4, cost=cost, ready=frozenset(ready))
    )
    assert total(with_ready.shapes, ready) <= total(without.shapes, ready) * 1.01 + 1e-9
