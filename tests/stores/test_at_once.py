"""Many calls at once: in order, no more than are wished for, and nobody waits for those that hang."""

import threading

import pytest

from batchneuron.stores.at_once import AT_ONCE, map_at_once

SOON_S = 30


@pytest.mark.parametrize("things", [0, 1, 37, 5000])
def test_what_is_asked_for_comes_in_its_order(things):
    assert list(map_at_once(lambda thing: 2 * thing, range(things))) == [2 * thing for thing in range(things)]


def test_sixteen_are_asked_at_once_by_threads_that_no_exit_waits_for():
    together = threading.Barrier(AT_ONCE)

    def meet(_):
        together.wait(SOON_S)
        return threading.current_thread().daemon

    assert list(map_at_once(meet, range(4 * AT_ONCE))) == [True] * 4 * AT_ONCE


def test_an_error_comes_in_its_place_and_whatever_it_is():
    found = map_at_once(lambda thing: 1 // (7 - thing), range(100))

    assert [next(found) for _ in range(7)] == [0, 0, 0, 0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_who_wants_no_more_leaves_the_rest_and_no_thread():
    asked = []
    found = map_at_once(lambda thing: asked.append(thing) or thing, range(5000))
    before = threading.active_count()

    assert next(found) == 0
    found.close()

    assert len(asked) < 200
    assert threading.active_count() == before
