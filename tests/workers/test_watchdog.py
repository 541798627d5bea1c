"""The watchdog: who stands still too long, by a clock of the test."""

import pytest

from batchneuron.workers.watchdog import SHORTEST_S, Action, Duty, Watchdog


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def look_after(dog, clock, seconds, beats=1, duty=Duty.COMPUTING, worker="a"):
    """What it says after that time; it is asked every few seconds, and the pulse changes at the end."""
    before = dog._seen.get(worker)
    end = clock.now + seconds
    while before is not None and clock.now + 20 < end:
        clock.now += 20
        dog.look(worker, before.beats, before.duty)
    clock.now = end
    return dog.look(worker, beats, duty)


def test_a_pulse_that_beats_is_left_alone(clock):
    dog = Watchdog(10, clock)

    assert {look_after(dog, clock, 9, beats) for beats in range(20)} == {Action.LEAVE}


def test_one_that_stands_still_is_asked_for_its_stacks_and_then_killed(clock):
    dog = Watchdog(10, clock)
    look_after(dog, clock, 0)

    assert look_after(dog, clock, 10) is Action.LEAVE
    assert look_after(dog, clock, 0.5) is Action.DUMP
    assert look_after(dog, clock, 0.5) is Action.LEAVE
    assert look_after(dog, clock, 1) is Action.KILL


def test_one_that_goes_on_after_all_is_left_alone(clock):
    dog = Watchdog(10, clock)
    look_after(dog, clock, 0)
    assert look_after(dog, clock, 11) is Action.DUMP

    assert look_after(dog, clock, 1, beats=2) is Action.LEAVE
    assert look_after(dog, clock, 9, beats=2) is Action.LEAVE


def test_whoever_has_nothing_to_do_may_rest_for_ever(clock):
    dog = Watchdog(10, clock)
    look_after(dog, clock, 0, duty=Duty.IDLE)

    assert look_after(dog, clock, 10**4, duty=Duty.IDLE) is Action.LEAVE
    assert look_after(dog, clock, 0, duty=Duty.COMPUTING) is Action.LEAVE, "its time begins with its work"
    assert look_after(dog, clock, 11, duty=Duty.COMPUTING) is Action.DUMP


@pytest.mark.parametrize(
    ("duty", "limit_s"), [(Duty.COMPUTING, SHORTEST_S), (Duty.STARTING, 3600), (Duty.STORING, 3600)]
)
def test_without_a_wish_the_limit_is_by_duty(duty, limit_s, clock):
    dog = Watchdog(None, clock)
    look_after(dog, clock, 0, duty=duty)

    assert look_after(dog, clock, limit_s, duty=duty) is Action.LEAVE
    assert look_after(dog, clock, 1, duty=duty) is Action.DUMP


def test_a_wish_is_no_limit_for_loading_which_may_compile(clock):
    assert Watchdog(5, clock).limit_s(Duty.STARTING) == 3600
    assert Watchdog(5, clock).limit_s(Duty.STORING) == 5


def test_slow_work_earns_patience(clock):
    dog = Watchdog(None, clock)
    look_after(dog, clock, 0, beats=1)
    look_after(dog, clock, 100, beats=2)  # a batch of 100 s

    assert dog.limit_s(Duty.COMPUTING) == 2000
    assert look_after(dog, clock, 1999, beats=2) is Action.LEAVE


def test_while_the_watcher_itself_was_stopped_nobody_is_to_blame(clock):
    dog = Watchdog(10, clock)
    look_after(dog, clock, 0)
    look_after(dog, clock, 9)

    clock.now += 1000
    assert dog.look("a", 1, Duty.COMPUTING) is Action.LEAVE
    assert look_after(dog, clock, 10) is Action.LEAVE
    assert look_after(dog, clock, 1) is Action.DUMP


def test_one_that_is_gone_is_forgotten(clock):
    dog = Watchdog(10, clock)
    look_after(dog, clock, 0)
    dog.forget("a")

    assert look_after(dog, clock, 11) is Action.LEAVE
