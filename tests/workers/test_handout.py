"""Handing out shards: each exactly once, whoever asks, dies or gives back."""

import random

from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.plan import cut_shards
from batchneuron.workers.events import OthersSeen
from batchneuron.workers.handout import HandOut
from tests.planning.test_plan import make_inventory

steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["take", "take", "take", "die"])), max_size=60)


def make_shards(blocks, shards_per_block=1):
    """Shards of three rows, so many to each row group of one file."""
    return cut_shards(make_inventory([[3 * shards_per_block] * blocks]), 3)


@given(st.integers(1, 4), st.integers(1, 5), steps)
def test_every_shard_is_done_exactly_once_whatever_the_interleaving(blocks, shards_per_block, actions):
    shards = make_shards(blocks, shards_per_block)
    handout = HandOut(shards)
    holds, done = {}, []
    for worker, action in actions:
        shard = holds.pop(worker, None)
        if shard is not None and action == "die":
            handout.give_back(shard)
        elif action == "take":
            done += [shard] if shard is not None else []
            taken = handout.take(shard)
            holds |= {worker: taken} if taken is not None else {}
        assert len(handout) + len(holds) + len(done) == len(shards)

    done += holds.values()
    last = None
    while (last := handout.take(last)) is not None and len(done) <= len(shards):
        done.append(last)

    assert sorted(shard.index for shard in done) == list(range(len(shards)))
    assert len(handout) == 0


def test_a_single_worker_gets_them_in_order():
    shards = make_shards(5, 3)
    handout = HandOut(shards)
    taken = [handout.take(None)]
    while (shard := handout.take(taken[-1])) is not None:
        taken.append(shard)

    assert taken == list(shards)


def test_the_order_that_was_given_is_kept():
    shards = make_shards(7)[::-1]
    handout = HandOut(shards)
    taken = [handout.take(None)]
    while (shard := handout.take(taken[-1])) is not None:
        taken.append(shard)

    assert taken == list(shards)


@given(st.integers(4, 12), st.integers(2, 5), st.lists(st.integers(1, 4), min_size=2, max_size=2))
def test_two_workers_share_few_blocks_whatever_their_speeds(blocks, shards_per_block, speeds):
    shards = make_shards(blocks, shards_per_block)
    handout = HandOut(shards)
    last = {0: None, 1: None}
    readers = {}
    while len(handout):
        for worker, speed in enumerate(speeds):
            for _ in range(speed):
                shard = handout.take(last[worker])
                if shard is not None:
                    last[worker] = shard
                    readers.setdefault(shard.index // shards_per_block, set()).add(worker)

    shared = [block for block, workers in readers.items() if len(workers) > 1]
    assert len(shared) <= 1


def test_inside_one_block_a_second_worker_starts_far_from_the_first():
    shards = make_shards(1, 9)
    handout = HandOut(shards)
    first = handout.take(None)

    second = handout.take(None)

    assert (first, second) == (shards[0], shards[5])
    assert (handout.take(first), handout.take(second)) == (shards[1], shards[6])


def test_a_shard_that_comes_back_goes_out_first():
    shards = make_shards(4)
    handout = HandOut(shards)
    first = handout.take(None)
    second = handout.take(first)

    handout.give_back(first)

    assert handout.take(second) == first
    assert handout.take(second) == shards[2]


def test_after_clear_nothing_is_handed_out():
    handout = HandOut(make_shards(4))
    first = handout.take(None)
    handout.give_back(first)

    handout.clear()

    assert (handout.take(None), handout.take(first), len(handout)) == (None, None, 0)


def test_no_shards_at_all():
    assert (HandOut(()).take(None), len(HandOut(()))) == (None, 0)


def test_empty_shard_is_handed_out():
    shards = cut_shards(make_inventory([]), 3)

    assert HandOut(shards).take(None) == shards[0]


class Others:
    """What other runners are said to do."""

    def __init__(self, done=(), held=(), is_patience_over=False):
        self.done, self.held = frozenset(done), frozenset(held)
        self.others = 1
        self.own = range(0)
        self.is_over = is_patience_over
        self.hand = []

    def take(self, index):
        self.hand.append(index)

    def give_back(self, index):
        self.hand.remove(index)

    def is_patience_over(self):
        return self.is_over


def take_all(handout):
    taken = []
    while (shard := handout.take(taken[-1] if taken else None)) is not None:
        taken.append(shard)
    return [shard.index for shard in taken]


def test_what_others_hold_is_left_to_them_until_patience_is_over():
    claims = Others(held={1, 2, 7})
    handout = HandOut(make_shards(8), claims)

    assert sorted(take_all(handout)) == [0, 3, 4, 5, 6]
    assert len(handout) == 3
    assert handout.news() == OthersSeen(rows_done=0, awaited=3)
    assert handout.news() is None

    claims.is_over = True
    assert sorted(take_all(handout)) == [1, 2, 7]
    assert sorted(claims.hand) == list(range(8))


def test_what_others_have_done_is_struck_out_and_counted():
    claims = Others(held={2, 3})
    handout = HandOut(make_shards(6), claims)
    mine = {handout.take(None).index, handout.take(None).index}

    claims.done = frozenset({2, *mine} | {max({0, 1, 4, 5} - mine)})
    claims.held = frozenset({3})

    assert len(handout) == 2
    assert handout.news() == OthersSeen(rows_done=6, awaited=0)
    assert take_all(handout) == [min({0, 1, 4, 5} - mine)]
    claims.done = frozenset(range(6))
    assert len(handout) == 0
    assert handout.take(None) is None


def test_a_shard_that_was_given_back_and_done_elsewhere_meanwhile_is_not_done_again():
    claims = Others()
    handout = HandOut(make_shards(1), claims)
    handout.give_back(handout.take(None))
    assert claims.hand == []

    claims.done = frozenset({0})

    assert handout.take(None) is None and len(handout) == 0


@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_held_and_done_shards_in_any_arrangement(done, held):
    claims = Others(done, held - done)
    handout = HandOut(make_shards(4, 3), claims)

    assert sorted(take_all(handout)) == sorted(set(range(12)) - done - held)
    claims.is_over = True
    assert sorted(take_all(handout)) == sorted(held - done)


def test_a_shard_that_failed_on_a_core_goes_to_another():
    shards = make_shards(3)
    handout = HandOut(shards)
    first = handout.take(None)
    handout.give_back(first, failed_on=1)

    assert handout.take(first, unless_failed_on=1) == shards[1]
    assert handout.take(None, unless_failed_on=2) == first

    handout.give_back(first, failed_on=1)
    assert handout.take(shards[1], unless_failed_on=1) == shards[2]
    assert handout.take(None, unless_failed_on=1) is None and len(handout) == 1
    assert handout.take(None) == first


def test_plenty_is_more_than_one_for_each_worker_here_and_elsewhere():
    claims = Others(held={0, 1, 2})
    handout = HandOut(make_shards(8), claims)

    assert handout.is_plenty(2) and not handout.is_plenty(3)
    handout.take(None)
    assert not handout.is_plenty(2)
    claims.held = frozenset()
    assert handout.is_plenty(2)
    alone = HandOut(make_shards(3))
    assert alone.is_plenty(2) and not alone.is_plenty(3)


@given(st.integers(0, 1000))
def test_where_others_are_at_work_a_worker_begins_in_the_back_half_of_a_stretch(seed):
    random.seed(seed)
    claims = Others(held={10})
    handout = HandOut(make_shards(21), claims)

    assert handout.take(None).index in {*range(5, 10), *range(16, 21)}


def test_what_must_be_done_alone_waits_for_a_worker_that_is_idle():
    shards = make_shards(4)
    handout = HandOut(shards)
    first = handout.take(None)
    handout.give_back(first, failed_on=0, is_alone=True)

    assert handout.take(None, unless_failed_on=1, is_idle=False) is None
    assert handout.take(first, unless_failed_on=0, is_idle=False) == shards[1], "another core may go on"
    assert handout.take(None, unless_failed_on=1, is_idle=True) == first
