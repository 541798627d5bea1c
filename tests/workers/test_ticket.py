"""Tickets: which shards are whose, what AWS Batch says of it, and that a runner's own come first."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.workers.handout import HandOut
from batchneuron.workers.ticket import Portion, Ticket, find_attempt, find_portion, parse_portion
from tests.workers.test_handout import make_shards


@dataclass(frozen=True)
class Others:
    """What a runner with shards of its own sees of the others."""

    own: range
    held: frozenset[int] = frozenset()
    done: frozenset[int] = frozenset()
    others: int = 3

    def take(self, index):
        pass

    def give_back(self, index):
        pass

    def is_patience_over(self):
        return False


@given(st.integers(1, 50), st.integers(0, 300))
def test_all_portions_together_are_all_shards_each_once_and_none_is_much_larger(count, shards):
    ranges = [Portion(number, count).find_range(shards) for number in range(count)]

    assert [index for each in ranges for index in each] == list(range(shards))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize("text", ["8/8", "-1/8", "1", "a/b", "1/0", "", "1/8/2"])
def test_what_names_no_portion(text):
    with pytest.raises(ValueError, match="the last is 7/8"):
        parse_portion(text)


def test_what_is_read_is_what_is_written():
    assert parse_portion(str(Portion(3, 8))) == Portion(3, 8)


@pytest.mark.parametrize(
    ("variables", "portion"),
    [
        ({}, None),
        ({"INDEX": "3", "SIZE": "8"}, Portion(3, 8)),
        ({"INDEX": "3"}, None),
        ({"INDEX": "8", "SIZE": "8"}, None),
        ({"INDEX": "x", "SIZE": "8"}, None),
    ],
)
def test_aws_batch_numbers_the_children_of_an_array(monkeypatch, variables, portion):
    for name in ("INDEX", "SIZE"):
        monkeypatch.delenv(f"AWS_BATCH_JOB_ARRAY_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f"AWS_BATCH_JOB_ARRAY_{name}", value)

    assert find_portion() == portion


@pytest.mark.parametrize(("text", "attempt"), [("", 1), ("2", 2), ("0", 1), ("x", 1)])
def test_aws_batch_counts_attempts(monkeypatch, text, attempt):
    monkeypatch.setenv("AWS_BATCH_JOB_ATTEMPT", text)

    assert find_attempt() == attempt


def test_a_runners_name():
    assert [Ticket().name, Ticket(Portion(3, 8)).name, Ticket(Portion(3, 8), attempt=2).name] == [
        "", "3/8", "3/8, attempt 2",
    ]  # fmt: skip


def test_its_own_shards_come_first_in_order_and_then_all_others():
    shards = make_shards(12)
    handout = HandOut(shards, Others(own=range(4, 8)))
    taken = [handout.take(None)]
    while (shard := handout.take(taken[-1])) is not None:
        taken.append(shard)

    indices = [shard.index for shard in taken]
    assert indices[:4] == [4, 5, 6, 7]
    assert sorted(indices) == list(range(12))


def test_workers_of_one_runner_share_its_own_shards_before_they_help():
    handout = HandOut(make_shards(40), Others(own=range(10, 20)))
    last = {}
    for turn in range(10):
        last[turn % 2] = handout.take(last.get(turn % 2))
        assert last[turn % 2].index in range(10, 20)

    assert handout.take(last[0]).index not in range(10, 20)


def test_what_others_hold_of_its_own_is_left_to_them_while_there_is_more():
    handout = HandOut(make_shards(6), Others(own=range(0, 2), held=frozenset({0, 1})))

    assert handout.take(None).index in range(2, 6)
