"""The forecast: what a ladder wastes, what any must, and what one more shape would save, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.cost import ShapeCost
from batchneuron.planning.forecast import expect_item_s, forecast
from batchneuron.planning.ladder import LadderRequest, Sample, plan_ladder
from batchneuron.planning.shapes import Ladder, Shape


def make_sample(lengths, items=None):
    return Sample(np.array(lengths, np.int32), len(lengths) if items is None else items)


def test_padding_of_a_ladder_by_hand():
    """Shapes of one row have no fillers: 8 and 4 tokens in 8 slots, 10 in 16; 10 and 16 would be better."""
    made = forecast(
        Ladder((Shape(1, 8), Shape(1, 16))), make_sample([8, 4, 10]), LadderRequest(16, batch_size=1)
    )

    assert made.padding_share == pytest.approx(1 - 22 / 32)
    assert made.least_share == pytest.approx(1 - 22 / (10 + 10 + 10))
    assert made.one_more_share == pytest.approx(1 - 22 / (4 + 10 + 10))


def test_fillers_count():
    rows = make_sample([8] * 1000)
    full = forecast(Ladder((Shape(1, 8),)), rows, LadderRequest(8))
    partial = forecast(Ladder((Shape(64, 8),)), rows, LadderRequest(8))

    assert full.padding_share == 0
    assert partial.padding_share == pytest.approx(24 / 1024)  # sixteen batches: all rows have one length

    mixed = make_sample([4, 8] * 500)
    two = forecast(Ladder((Shape(64, 4), Shape(64, 8))), mixed, LadderRequest(8))
    assert two.padding_share == pytest.approx(31.5 / 531.5)  # half a batch of each on average


def test_a_batch_that_goes_as_it_is_has_no_fillers():
    """16 slots for 8 and 5 tokens, 4 for 3."""
    cost = ShapeCost(partial_s=1.0)
    made = forecast(Ladder((Shape(64, 4), Shape(64, 8))), make_sample([8, 5, 3]), LadderRequest(8, cost=cost))

    assert made.padding_share == pytest.approx(1 - 16 / 20)


def test_the_limit_is_one_of_the_shapes_of_the_bound():
    made = forecast(Ladder((Shape(1, 4), Shape(1, 99))), make_sample([2, 4] * 9), LadderRequest(99))

    assert made.least_share == pytest.approx(1 - 6 / 8)


def test_nothing_sampled_forecasts_nothing():
    made = forecast(Ladder((Shape(4, 99),)), make_sample([]), LadderRequest(99))

    assert (made.padding_share, made.least_share, made.one_more_share) == (0, 0, None)


@given(
    st.lists(st.integers(1, 700), min_size=1, max_size=60), st.integers(1, 8), st.sampled_from([700, 4000])
)
def test_no_plan_beats_the_bound(lengths, most, limit):
    sample, request = make_sample(lengths), LadderRequest(limit, max_shapes=most)
    made = forecast(plan_ladder(sample, request), sample, request)

    assert 0 <= made.least_share <= made.padding_share + 1e-9


def test_an_item_takes_its_share_of_full_batches():
    """Batches of four rows of eight slots, 2 s for the call and 0.1 s a slot: 5.2 s for four rows."""
    cost = ShapeCost(per_call_s=2.0, per_slot_s=0.1)
    request = LadderRequest(8, batch_size=4, cost=cost)
    rows = Sample(np.full(100, 8, np.int32), items_per_shard=1_000_000.0, shards=1_000)

    assert expect_item_s(rows, request) == pytest.approx(5.2 / 4, rel=1e-6)
    alone = replace(request, cost=replace(cost, partial_s=3.0))
    assert expect_item_s(rows, alone) == pytest.approx(5.2 / 4, rel=1e-6)
    ready = replace(request, ready=frozenset({Shape(1, 5)}))
    assert expect_item_s(rows, ready) == expect_item_s(rows, request)
    assert expect_item_s(make_sample([]), request) == 0.0
