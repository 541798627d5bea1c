"""How a worker's process begins, and how it ends, as its supervisor is told."""

import signal
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from batchneuron.backends.backend import Core
from batchneuron.workers import worker_process
from batchneuron.workers.pulse import Pulse
from batchneuron.workers.worker_process import ProcessCrew, WorkerProcess


class Stubborn:
    """A process that lives on with its pipe closed; killed, it takes a moment to go, or never does."""

    exitcode = None

    def __init__(self, goes):
        self._goes = goes
        self._is_killed = False

    def kill(self):
        self._is_killed = True

    def join(self, timeout):
        assert timeout > 0
        if self._is_killed and self._goes:
            self.exitcode = -9


@pytest.mark.parametrize(
    ("goes", "message"),
    [(True, "a worker died with signal SIGKILL"), (False, "a worker was killed, and does not end")],
)
def test_one_that_is_buried_alive_is_waited_for(goes, message):
    closed = []
    worker = WorkerProcess(Stubborn(goes), SimpleNamespace(close=lambda: closed.append(True)), Pulse())

    assert worker.bury().failure.message.startswith(message)
    assert closed


def test_a_process_that_cannot_be_started_leaves_ctrl_c_as_it_was(monkeypatch):
    class Refused(SimpleNamespace):
        def start(self):
            raise BlockingIOError("Resource temporarily unavailable")

    context = SimpleNamespace(Pipe=Pipe, RawArray=lambda kind, size: bytearray(size), Process=Refused)
    monkeypatch.setattr(worker_process.multiprocess, "get_context", lambda _: context)

    with pytest.raises(BlockingIOError):
        ProcessCrew().start(None, Core(0))

    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
