"""Signals as a question: the first is remembered, the second and the end of the grace interrupt."""

import io
import signal
import time

import pytest

from batchneuron.cli.streams import Lossy
from batchneuron.stop import StopSignals


def send(number):
    """To this very thread: one that is sent to the process may reach another thread, and so come too late."""
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_remembered_and_the_second_interrupts(number):
    said = []
    with pytest.raises(KeyboardInterrupt), StopSignals(said.append) as signals:
        assert not signals.is_stopped()
        send(number)
        assert signals.is_stopped()
        assert signals.received == number
        send(number)

    assert len(said) == 1


def test_the_grace_of_sigterm_ends():
    with pytest.raises(KeyboardInterrupt), StopSignals(lambda _: None, grace_s=0.05) as signals:
        send(signal.SIGTERM)
        time.sleep(10)

    assert signals.received == signal.SIGTERM


class Busy(io.TextIOBase):
    """A stream in the middle of a write, as Python's own says it."""

    def write(self, _text):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    def flush(self):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")


def test_a_signal_in_the_middle_of_a_line_on_stderr_is_remembered_and_its_word_is_lost():
    stderr = Lossy(Busy())
    with StopSignals(lambda text: (stderr.write(text), stderr.flush())) as signals:
        send(signal.SIGINT)

    assert signals.is_stopped()


def test_ctrl_c_has_no_grace():
    with StopSignals(lambda _: None, grace_s=0.01) as signals:
        send(signal.SIGINT)
        time.sleep(0.1)

    assert signals.received == signal.SIGINT


def test_what_was_before_is_put_back_and_no_alarm_is_left():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    with StopSignals(lambda _: None, grace_s=60):
        send(signal.SIGTERM)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
