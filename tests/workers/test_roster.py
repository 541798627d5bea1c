"""Which cores get a worker, and when: three failures in a row give a core up, pauses between them."""

from batchneuron.backends.backend import Core
from batchneuron.errors import CoreLost, DeviceFault
from batchneuron.workers.events import CoreRetired, Failure
from batchneuron.workers.roster import MAX_FAILURES, PAUSES_S, Roster

A, B = Core(0), Core(1)


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def failure_of(error):
    return Failure(error.__name__, "so it is", error.exit_code, error.retryable, "", error.retires_core)


BUSY, LOST = failure_of(DeviceFault), failure_of(CoreLost)


def take_all(roster):
    taken = []
    while (core := roster.take()) is not None:
        taken.append(core)
    return taken


def test_cores_are_given_in_order_and_once():
    roster = Roster((A, B), Clock())

    assert take_all(roster) == [A, B]
    assert len(roster) == 0


def test_a_start_that_failed_is_tried_again_after_a_growing_pause_and_then_no_more():
    clock = Clock()
    roster = Roster((A,), clock)
    for pause_s in PAUSES_S:
        roster.take()
        assert roster.put_back_failed(A, BUSY, was_ready=False) is None
        clock.now_s += pause_s - 0.01
        assert (take_all(roster), len(roster)) == ([], 1)
        clock.now_s += 0.02
    assert take_all(roster) == [A]

    assert roster.put_back_failed(A, BUSY, was_ready=False) == CoreRetired(0, "so it is")
    clock.now_s += 1000
    assert (take_all(roster), len(roster)) == ([], 0)


def test_a_fault_at_work_is_tried_again_at_once():
    roster = Roster((A,), Clock())
    roster.take()
    roster.put_back_failed(A, BUSY, was_ready=True)

    assert take_all(roster) == [A]


def test_a_part_makes_up_for_earlier_failures():
    roster = Roster((A,), Clock())
    for _ in range(3 * MAX_FAILURES):
        roster.take()
        roster.note_part(A)
        assert roster.put_back_failed(A, BUSY, was_ready=True) is None

    assert take_all(roster) == [A]


def test_a_death_at_work_is_not_the_cores_failure():
    roster = Roster((A,), Clock())
    for _ in range(2 * MAX_FAILURES):
        assert take_all(roster) == [A]
        roster.put_back(A)

    assert take_all(roster) == [A]


def test_a_lost_core_is_given_up_at_once_and_told_once():
    """Two workers share it; the second finds it retired."""
    roster = Roster((A, B, A), Clock())
    assert roster.take() == A

    assert roster.put_back_failed(A, LOST, was_ready=True) == CoreRetired(0, "so it is")
    assert roster.put_back_failed(A, LOST, was_ready=True) is None
    roster.put_back(A)
    assert take_all(roster) == [B]


def test_a_pause_of_one_core_does_not_hold_up_another():
    roster = Roster((A, B), Clock())
    roster.take()
    roster.put_back_failed(A, BUSY, was_ready=False)

    assert take_all(roster) == [B]
    assert len(roster) == 1
