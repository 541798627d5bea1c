"""How a worker's process ends, as its supervisor is told."""

from types import SimpleNamespace

import pytest

from batchneuron.workers.pulse import Pulse
from batchneuron.workers.worker_process import WorkerProcess


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
