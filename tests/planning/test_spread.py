"""Rows from all over the input: few, in order, each reached by its own block."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.plan import Shard, cut_shards, head_slices, sample_shards
from batchneuron.planning.spread import PLACES, split_at_blocks, spread_rows
from tests.planning.test_plan import inventories, list_rows, make_inventory, rows_of

ROWS = st.integers(1, 8)


def spread(inventory, shards, rows, places=PLACES):
    return spread_rows(split_at_blocks(shards, inventory), rows, places)


@given(inventories, st.integers(1, 60), ROWS)
def test_the_rows_are_those_that_the_ordinals_say(inventory, shard_rows, rows):
    shards = cut_shards(inventory, shard_rows)
    wanted = rows_of(inventory)

    for some in spread(inventory, shards, rows):
        assert list_rows(some.shard.slices) == [wanted[row] for row in some.ordinals]
        assert some.shard.index == shards[some.shard.index].index
        assert shards[some.shard.index].row_lo <= some.ordinals[0] <= some.ordinals[-1]
        assert some.ordinals[-1] < shards[some.shard.index].row_hi


@given(inventories, st.integers(1, 200), ROWS)
def test_few_shards_are_sampled_evenly(inventory, shard_rows, rows):
    shards = cut_shards(inventory, shard_rows)
    if len(shards) >= PLACES:
        return

    chosen = [row for some in spread(inventory, shards, rows) for row in some.ordinals.tolist()]

    total = inventory.rows
    assert len(chosen) == min(total, PLACES * rows)
    assert chosen == sorted(set(chosen))
    if total > PLACES * rows:
        starts = np.array(chosen).reshape(PLACES, rows)[:, 0]
        assert (starts[0], chosen[-1]) == (0, total - 1)
        assert np.ptp(np.diff(starts)) <= 1


@pytest.mark.parametrize("count", [PLACES, 40])
def test_of_many_shards_the_heads_are_taken(count):
    inventory = make_inventory([[10] * count])
    shards = cut_shards(inventory, 10)

    found = spread(inventory, shards, 4)

    sampled = sample_shards(shards, PLACES)
    assert [some.shard.slices for some in found] == [head_slices(shard, 4) for shard in sampled]
    assert [some.ordinals[0] for some in found] == [shard.row_lo for shard in sampled]


def test_places_for_each_shard_are_their_heads():
    inventory = make_inventory([[10] * 3])
    shards = cut_shards(inventory, 10)

    assert [some.ordinals.tolist() for some in spread(inventory, shards, 1, places=3)] == [[0], [10], [20]]


@given(inventories, st.integers(1, 25), st.none() | st.integers(0, 120))
def test_a_slice_for_each_block_holds_the_same_rows(inventory, shard_rows, limit):
    blocks = {file.file: file.blocks for file in inventory.files}
    shards = cut_shards(inventory, shard_rows, limit)

    split = split_at_blocks(shards, inventory)

    assert [shard.row_lo for shard in split] == [shard.row_lo for shard in shards]
    for before, after in zip(shards, split, strict=True):
        assert list_rows(after.slices) == list_rows(before.slices)
        for piece in after.slices if len(shards) < PLACES else ():
            (block,) = (block for block in blocks[piece.file] if block.position == piece.block_position)
            assert block.rows and piece.block_row == block.row_lo
            assert block.row_lo <= piece.row_lo < piece.row_hi <= block.row_lo + block.rows


def test_a_row_far_into_a_shard_is_reached_by_its_own_block():
    inventory = make_inventory([[10] * 40])

    (some,) = spread(inventory, cut_shards(inventory, 400), 1)

    assert [piece.block_row for piece in some.shard.slices] == [row // 10 * 10 for row in some.ordinals]


def test_no_rows_are_no_shards():
    assert spread_rows([Shard(0, 0, ())], 4) == spread_rows([Shard(0, 0, ())], 4, places=1) == ()
