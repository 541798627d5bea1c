"""Aside: a call in a process of its own, on the first core that can make it."""

import functools
import os
import signal
import time
from pathlib import Path

import multiprocess
import pytest

from batchneuron.backends.backend import Core
from batchneuron.errors import BatchNeuronError, CoreLost, ModelError, WorkerFailed
from batchneuron.workers import aside
from batchneuron.workers.aside import call_aside

CORES = tuple(Core(index, environment={"ASIDE_CORE": str(index)}) for index in range(5))


def tell_core():
    """Which core this process was given; the first two are broken."""
    index = int(os.environ["ASIDE_CORE"])
    if index < 2:
        raise CoreLost("broken", f"core {index}")
    return index, os.getpid()


def be_lost():
    raise CoreLost("broken", f"core {os.environ['ASIDE_CORE']}")


def refuse():
    raise ModelError("no weights", f"core {os.environ['ASIDE_CORE']}")


def give_up(error):
    raise error


def die():
    os._exit(3)


def hang():
    time.sleep(600)


def count_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_next_core_is_tried_where_one_is_broken():
    core, process = call_aside(tell_core, CORES, "test")

    assert core == 2
    assert process != os.getpid()


def test_after_three_broken_cores_it_says_what_the_last_one_said():
    with pytest.raises(CoreLost, match="core 2"):
        call_aside(be_lost, CORES, "test")


def test_what_another_core_would_not_mend_is_raised_at_once():
    with pytest.raises(ModelError, match="core 0"):
        call_aside(refuse, CORES, "test")


def test_a_death_is_told():
    with pytest.raises(WorkerFailed, match="the process of the test died"):
        call_aside(die, CORES[:1], "test")


def interrupt(_number, _frame):
    """Ctrl-C, a second time: what `StopSignals` makes of it."""
    raise KeyboardInterrupt


def call_and_be_interrupted():
    call_aside(os.getpid, CORES[:1], "test")
    before, began = count_descriptors(), time.monotonic()
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 1.0)

    with pytest.raises(KeyboardInterrupt):
        call_aside(hang, CORES, "test")

    assert time.monotonic() - began < 20
    assert multiprocess.active_children() == []
    assert count_descriptors() == before


def test_an_interrupt_ends_it_at_once_and_nothing_is_left():
    # In a process of its own: an interrupt at an odd moment would end the tests.
    process = multiprocess.get_context("spawn").Process(target=call_and_be_interrupted)
    process.start()
    process.join(60)

    assert process.exitcode == 0


def test_what_gives_no_answer_is_ended_and_tried_on_no_other_core(monkeypatch):
    call_on, tried = aside._call_on, []

    def watch(call, core, *rest):
        tried.append(core.index)
        return call_on(call, core, *rest)

    monkeypatch.setattr(aside, "_call_on", watch)
    with pytest.raises(WorkerFailed, match="gave no answer in"):
        call_aside(hang, CORES, "test", limit_s=0.5)

    assert tried == [0]
    assert multiprocess.active_children() == []


def test_without_cores_it_is_a_call():
    assert call_aside(os.getpid, (), "test") == os.getpid()
    with pytest.raises(ModelError, match="no weights"):
        call_aside(functools.partial(give_up, ModelError("no weights")), (), "test")


@pytest.mark.parametrize("cores", [(), CORES[:1]])
def test_what_is_none_of_our_errors_comes_as_the_plain_one(cores):
    with pytest.raises(BatchNeuronError, match="test: ZeroDivisionError: odd") as caught:
        call_aside(functools.partial(give_up, ZeroDivisionError("odd")), cores, "test")
    assert type(caught.value) is BatchNeuronError
