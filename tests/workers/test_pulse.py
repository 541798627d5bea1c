"""The pulse: what a worker writes, its supervisor reads, while it lives and after."""

import multiprocess
import pytest

from batchneuron.workers.pulse import COMPUTING, FINISHING, LANES, NOWHERE, PULSE_BYTES, READING, Place, Pulse

PLACE = Place(3, "execute", 7, 8, 16, 64, -1)


def test_without_anything_in_hand_there_is_nothing_to_read():
    assert Pulse().read() == ()


@pytest.mark.parametrize("stage", ["read", "encode", "execute", "decode", "finish"])
def test_a_place_is_read_as_it_was_written(stage):
    cells = bytearray(PULSE_BYTES)
    place = Place(2**40, stage, 5, 1, 2, 3, 2**33)

    Pulse(cells).mark(COMPUTING, place)

    assert Pulse(cells).read() == (place,)


def test_each_lane_keeps_its_own_place_until_it_rests():
    pulse = Pulse()
    for lane in LANES:
        pulse.mark(lane, Place(lane, "read"))

    assert [place.shard for place in pulse.read()] == [READING, COMPUTING, FINISHING]
    assert pulse.rest(COMPUTING) == Place(COMPUTING, "read")
    assert [place.shard for place in pulse.read()] == [READING, FINISHING]
    assert pulse.rest(COMPUTING) == NOWHERE


def test_every_mark_is_a_beat():
    pulse = Pulse()
    beats = [pulse.count_beats()]
    for lane in (READING, COMPUTING, COMPUTING, FINISHING):
        pulse.mark(lane, PLACE)
        beats.append(pulse.count_beats())
    pulse.rest(READING)

    assert beats == [0, 1, 2, 3, 4]
    assert pulse.count_beats() == 5


def test_it_outlives_the_process_that_wrote_it():
    context = multiprocess.get_context("fork")
    cells = context.RawArray("b", PULSE_BYTES)

    def die():
        Pulse(cells).mark(COMPUTING, PLACE)
        raise SystemExit(9)

    process = context.Process(target=die)
    process.start()
    process.join()

    assert Pulse(cells).read() == (PLACE,)
