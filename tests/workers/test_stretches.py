"""Stretches: a set of places, whatever is cut out of it and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.workers.stretches import Stretches

places = st.sets(st.integers(0, 30))


def gather(stretches):
    return [place for lo, hi in stretches for place in range(lo, hi)]


@given(places, st.lists(st.integers(-3, 35)))
def test_what_is_left_is_what_was_not_cut_out(cut, more):
    stretches = Stretches([(0, 20), (25, 31)]).without(sorted(cut))
    expected = set(range(20)) | set(range(25, 31))
    assert gather(stretches) == sorted(expected - cut)

    for place in more:
        stretches.discard(place)
    left = sorted(expected - cut - set(more))

    assert gather(stretches) == left == [stretches.find_nth(number) for number in range(len(left))]
    assert len(stretches) == len(left)
    assert all((place in stretches) == (place in left) for place in range(-3, 35))
    assert all(lo < hi for lo, hi in stretches)


def test_the_longest_stretch_is_the_first_of_equals():
    assert Stretches([(0, 2), (3, 6), (7, 10), (11, 11)]).find_longest() == (3, 6)


def test_there_is_no_place_beyond_the_last():
    with pytest.raises(IndexError):
        Stretches([(0, 2)]).find_nth(2)


@given(places, st.integers(-2, 33), st.integers(-2, 33))
def test_a_window_of_them(cut, lo, hi):
    stretches = Stretches([(0, 20), (25, 31)]).without(sorted(cut))

    assert gather(stretches.within(lo, hi)) == [place for place in gather(stretches) if lo <= place < hi]


def test_the_stretch_around_a_place():
    stretches = Stretches([(0, 2), (3, 6), (9, 10)])

    assert [stretches.find_around(place) for place in (0, 1, 3, 5, 9)] == [
        *((0, 2), (0, 2)),
        *((3, 6), (3, 6)),
        (9, 10),
    ]
