"""Holes: a batch without some of its items, every other in its slot and with its bits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages.execute import Follow, run_batches
from batchneuron.stages.gather import gather
from batchneuron.stages.holes import narrow, punch, sift
from tests.backends.arithmetic import load_all, make_items

LADDER = Ladder((Shape(4, 3), Shape(3, 8), Shape(2, 17)))

holed_tokens = st.lists(
    st.tuples(st.lists(st.integers(1, 49), min_size=1, max_size=17), st.booleans()), max_size=23
)


def by_slot(ids, mask):
    """Answers that depend on the slot, as no device's should: whoever moves is caught."""
    return ((ids * mask).sum(axis=1) * 100 + np.arange(len(ids)),)


@given(holed_tokens, st.booleans(), st.booleans())
def test_what_stays_keeps_its_slot_and_holes_hold_copies(rows, spills, is_open):
    tokens = [ids for ids, _ in rows]
    is_hole = np.array([hole for _, hole in rows], dtype=bool)
    lengths = make_items(tokens).lengths
    batches = gather(lengths, LADDER, spills=spills)
    before = load_all(LADDER, by_slot, is_open=is_open)
    whole = run_batches(make_items(tokens), batches, before, Follow())
    staying = [ids for ids, hole in rows if not hole]
    executables = load_all(LADDER, by_slot, is_open=is_open)

    left = run_batches(make_items(staying), punch(batches, is_hole), executables, Follow())

    if staying:
        assert sift(whole, is_hole).outputs.stack(0).tolist() == whole.outputs.stack(0)[~is_hole].tolist()
        assert left.outputs.stack(0).tolist() == whole.outputs.stack(0)[~is_hole].tolist()
    sizes = [[seen["input_ids"].shape for seen in some[0].seen] for some in (before, executables)]
    assert set(sizes[1]) <= set(sizes[0])
    if not is_hole.any():
        assert sizes[1] == sizes[0]
    real = {tuple(ids) for ids in staying}
    for batch in executables[0].seen:
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            assert tuple(ids[: int(mask.sum())].tolist()) in real


def test_batches_keep_their_numbers_when_one_is_empty():
    tokens = [[1] * 17, [2] * 17, [3] * 8, [4]]
    batches = gather(make_items(tokens).lengths, LADDER, spills=False)
    numbers = []

    punched = punch(batches, np.array([True, True, False, False]))
    run_batches(
        make_items(tokens[2:]), punched, load_all(LADDER), Follow(lambda number, _: numbers.append(number))
    )

    assert numbers == [1, 2]


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 4), st.integers(0, 4))
def test_a_range_of_slots_is_what_stays_of_them(holes, lo, hi):
    batches = gather(np.array([1, 1, 1, 1], np.int32), LADDER, spills=False)
    [batch] = punch(batches, np.array(holes))

    some = narrow(batch, lo, hi)

    assert some.slots.tolist() == [slot for slot in range(lo, hi) if not holes[slot]]
