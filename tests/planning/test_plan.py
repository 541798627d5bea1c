"""The plan: shards that hold every row once, in order, and cut no block that fits."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.planning.forecast import Forecast
from batchneuron.planning.plan import (
    LEAST_SHARDS,
    MAX_SHARDS,
    MIN_SHARD_ROWS,
    SHARD_S,
    Plan,
    Shard,
    cap_shard_rows,
    cut_shards,
    expect_part_bytes,
    head_slices,
    plan_from_json,
    plan_to_json,
    sample_shards,
    size_shards,
)
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.sources.source import Block, FileId, FileInventory, Inventory


def make_inventory(files, bytes_per_row=10):
    """An inventory of files, each given by the rows of its blocks."""
    made = []
    for number, counts in enumerate(files):
        starts = np.cumsum([0, *counts]).tolist()
        blocks = [
            Block(start, rows, rows * bytes_per_row, 100 * number + place)
            for place, (start, rows) in enumerate(zip(starts, counts, strict=False))
        ]
        made.append(FileInventory(FileId(f"file-{number}", sum(counts), "v1"), tuple(blocks)))
    return Inventory(tuple(made), pa.schema([]))


def list_rows(slices):
    return [(piece.file.uri, row) for piece in slices for row in range(piece.row_lo, piece.row_hi)]


def rows_of(inventory):
    return [(file.file.uri, row) for file in inventory.files for row in range(file.rows)]


inventories = st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=5).map(make_inventory)


@given(inventories, st.integers(1, 25), st.none() | st.integers(0, 120))
def test_shards_hold_every_row_once_and_in_order(inventory, shard_rows, limit):
    shards = cut_shards(inventory, shard_rows, limit)

    wanted = rows_of(inventory)[:limit]
    assert [row for shard in shards for row in list_rows(shard.slices)] == wanted
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert [shard.row_lo for shard in shards] == [0, *(shard.row_hi for shard in shards[:-1])]
    assert shards[-1].row_hi == len(wanted)
    assert all(shard.rows for shard in shards) or len(shards) == 1


@given(inventories, st.integers(1, 25))
def test_a_block_that_fits_is_in_one_shard_and_no_shard_is_much_too_large(inventory, shard_rows):
    shards = cut_shards(inventory, shard_rows)

    shard_of = {row: shard.index for shard in shards for row in list_rows(shard.slices)}
    for file in inventory.files:
        for block in file.blocks:
            rows = [(file.file.uri, block.row_lo + row) for row in range(block.rows)]
            if 2 * block.rows <= 3 * shard_rows:
                assert len({shard_of[row] for row in rows}) <= 1
    assert all(2 * shard.rows <= 3 * shard_rows for shard in shards)


@given(st.integers(1, 400), st.integers(1, 25))
def test_a_large_block_is_cut_into_equal_shards(rows, shard_rows):
    sizes = [shard.rows for shard in cut_shards(make_inventory([[rows]]), shard_rows)]

    assert max(sizes) - min(sizes) <= 1


@given(inventories, st.integers(1, 25), st.none() | st.integers(0, 120))
def test_a_slice_names_the_block_that_its_first_row_is_in(inventory, shard_rows, limit):
    blocks = {(file.file.uri, block.position): block for file in inventory.files for block in file.blocks}

    for shard in cut_shards(inventory, shard_rows, limit):
        for piece in shard.slices:
            block = blocks[piece.file.uri, piece.block_position]
            assert piece.block_row == block.row_lo
            assert block.row_lo <= piece.row_lo < block.row_lo + block.rows


@given(inventories, st.integers(1, 25))
def test_slices_of_one_file_are_joined(inventory, shard_rows):
    for shard in cut_shards(inventory, shard_rows):
        uris = [piece.file.uri for piece in shard.slices]
        assert len(uris) == len(set(uris))


@pytest.mark.parametrize("files", [[], [[]], [[0, 0], [0]]])
def test_no_rows_make_one_empty_shard_that_carries_the_schema(files):
    assert cut_shards(make_inventory(files), 10) == (Shard(0, 0, ()),)
    assert cut_shards(make_inventory([[5]]), 10, limit=0) == (Shard(0, 0, ()),)


def test_blocks_that_fill_a_shard_exactly_are_one_shard():
    assert [shard.rows for shard in cut_shards(make_inventory([[5, 5, 10, 3, 7]]), 10)] == [10, 10, 10]


def test_files_that_divide_evenly_by_nothing():
    shards = cut_shards(make_inventory([[11, 11, 11, 4], [], [5]]), 16)

    assert [(shard.row_lo, shard.row_hi) for shard in shards] == [(0, 11), (11, 22), (22, 37), (37, 42)]


@settings(max_examples=25, deadline=None)
@given(inventories, st.integers(1, 25), st.floats(0, 600), st.floats(0, 1))
def test_a_plan_survives_json_byte_for_byte(inventory, shard_rows, tokens_per_row, share):
    ladder = Ladder((Shape(7, 8), Shape(3, 37)))
    plan = Plan(cut_shards(inventory, shard_rows), ladder, tokens_per_row, Forecast(share, share, None))

    text = plan_to_json(plan)

    assert plan_from_json(text) == plan
    assert plan_to_json(plan_from_json(text)) == text
    assert plan.rows == inventory.rows


def test_shards_are_as_large_as_wished():
    assert size_shards(make_inventory([[37], [], [5]]), 10) == 10


@pytest.mark.parametrize(
    ("rows", "bytes_per_row", "row_s", "shard_rows"),
    [
        (0, 0, 0.0, MIN_SHARD_ROWS),
        (42, 100, 0.0, MIN_SHARD_ROWS),
        (2_000_000, 10, 0.0, 2_000_000 // LEAST_SHARDS),
        (100_000_000, 10, 0.0, (256 << 20) // (4_096 + 10)),  # 256 MiB of input and vectors of 1,024 floats
        (100_000_000, 10, SHARD_S / 20_000, 20_000),
        (2_000_000, 10, SHARD_S / 20_000, 2_000_000 // LEAST_SHARDS),
        (100_000_000, 10, SHARD_S / 100, MIN_SHARD_ROWS),
        (10_000, 1 << 20, 0.0, 64),  # 64 MiB of rows of one MiB
        (10, 1 << 30, 0.0, 1),
        (100_000_000, 1 << 20, 0.0, 1_000),  # else there would be more than MAX_SHARDS
    ],
)
def test_shards_take_their_time_fill_batches_and_fit_memory(rows, bytes_per_row, row_s, shard_rows):
    assert size_shards(make_inventory([[rows]], bytes_per_row), None, row_s) == shard_rows


@given(st.integers(0, 10**10), st.integers(0, 1 << 30), st.floats(0, 1e6))
def test_there_are_never_too_many_shards(rows, bytes_per_row, row_s):
    shard_rows = size_shards(make_inventory([[rows]], bytes_per_row), None, row_s)

    assert shard_rows >= 1
    assert rows / shard_rows <= MAX_SHARDS


@given(inventories, st.integers(1, 25), st.integers(0, 40))
def test_the_head_of_a_shard_is_its_first_rows(inventory, shard_rows, rows):
    for shard in cut_shards(inventory, shard_rows):
        assert list_rows(head_slices(shard, rows)) == list_rows(shard.slices)[:rows]


@given(st.integers(1, 60), st.integers(2, 20))
def test_a_sample_of_shards_reaches_from_the_first_to_the_last(count, most):
    shards = cut_shards(make_inventory([[1] * count]), 1)

    indices = [shard.index for shard in sample_shards(shards, most)]

    assert len(indices) == min(count, most)
    assert indices == sorted(set(indices))
    assert (indices[0], indices[-1]) == (0, count - 1)
    gaps = np.diff(indices)
    assert not gaps.size or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("bytes_per_row", "shard_rows", "expected"),
    [(904, 10, 50_000), (904, 1_000, 185_000), (10 << 20, 1_000, 256 << 20)],
)
def test_a_part_is_expected_to_hold_its_rows_and_what_is_predicted(bytes_per_row, shard_rows, expected):
    inventory = make_inventory([[30], [], [7]], bytes_per_row)

    assert expect_part_bytes(inventory, shard_rows) == expected


def test_without_rows_a_part_takes_nothing():
    assert expect_part_bytes(make_inventory([[]]), 10) == 0


def test_a_shard_is_cut_to_what_its_vectors_take():
    inventory = make_inventory([[10**6]], bytes_per_row=100)
    vector = pa.list_(pa.float32(), 768)

    def cap(kind):
        return cap_shard_rows(inventory, pa.schema([("embedding", kind)]), tokens=512)

    assert cap(pa.list_(vector)) == int((256 << 20) / 1.5 / (512 * 768 * 4 + 100))
    assert cap(vector) == int((256 << 20) / 1.5 / (768 * 4 + 100))
    assert cap(pa.list_(pa.float16(), 768)) == int((256 << 20) / 1.5 / (768 * 2 + 100))
    assert cap(pa.string()) == int((256 << 20) / 1.5 / 100)
