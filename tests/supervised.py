"""A stage for the supervisor: workers of a few lines each, in real processes, with nothing to load."""

import faulthandler
import inspect
import os
import signal
from pathlib import Path

import multiprocess
import pytest

from batchneuron.backends.backend import Core
from batchneuron.planning.plan import Shard
from batchneuron.workers import roster, supervise, worker, worker_process
from batchneuron.workers.events import (
    CoreRetired,
    Failure,
    PartDone,
    StageSeconds,
    WorkerReady,
)
from batchneuron.workers.pulse import Pulse
from batchneuron.workers.supervise import Supervisor

SHARDS = tuple(Shard(index, index, ()) for index in range(12))
CORES = (Core(0), Core(1))
IN_HAND = supervise.AHEAD * len(CORES)


def part_of(index):
    return PartDone(index, 1, 0, 0, 1, 1, 1, "", True, StageSeconds(0, 0, 0))


def failure_of(error, message="it is so", retryable=None):
    retryable = error.retryable if retryable is None else retryable
    return Failure(error.__name__, message, error.exit_code, retryable, "Traceback: …", error.retires_core)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Forking:
    """A `multiprocess` context that forks, and remembers the cores it started workers on."""

    def __init__(self):
        self._context = multiprocess.get_context("fork")
        self.starts = []

    def Pipe(self):
        return self._context.Pipe()

    def RawArray(self, kind, size):
        return self._context.RawArray(kind, size)

    def Process(self, **named):
        self.starts.append(named["args"][1].index)
        return self._context.Process(**named)


class Stage:
    """Runs a supervisor over a scripted worker, and remembers what it heard and what was started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder
        self.events = []
        self.is_stopped = lambda: False
        self.on_event = lambda event: None
        context = Forking()
        self.starts = context.starts
        monkeypatch.setattr(roster, "PAUSES_S", (0.02, 0.04))
        monkeypatch.setattr(worker_process.multiprocess, "get_context", lambda _: context)

    def mark(self, name: str) -> int:
        """Called in a worker: how many times something has happened now, in all processes."""
        while True:
            count = self.count(name) + 1
            try:
                (self._folder / f"{name}.{count}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return count

    def count(self, name: str) -> int:
        return len(list(self._folder.glob(f"{name}.*")))

    def run(self, do=lambda index: None, start=lambda core: None, shards=SHARDS, cores=CORES, **named):
        """Let workers call `start` once and `do` for each shard; what they return instead of None is sent."""

        takes_core = len(inspect.signature(do).parameters) == 2

        def main(_order, core, connection, cells):
            # Forked from whatever process the tests before have left: walking its stacks may crash. That a
            # worker dumps them is shown with spawned ones.
            faulthandler.disable()
            signal.signal(worker.DUMP_SIGNAL, signal.SIG_IGN)
            self.mark("start")
            broken = start(core)
            if broken is not None:
                connection.send(broken)
                return
            connection.send(WorkerReady(0.0))
            self.pulse = Pulse(cells)
            while (given := connection.recv()) is not None:
                shard, self.case = given.shard, given.case
                self.mark(f"shard-{shard.index}")
                connection.send(
                    do(*((shard.index, core) if takes_core else (shard.index,))) or part_of(shard.index)
                )

        def listen(event):
            self.events.append(event)
            self.on_event(event)

        self._monkeypatch.setattr(worker_process.worker, "main", main)
        self.supervisor = Supervisor(None, cores, listen, lambda: self.is_stopped(), **named)
        self.supervisor.run(shards)

    @property
    def done(self) -> list[int]:
        return sorted(event.shard for event in self.events if isinstance(event, PartDone))

    @property
    def retired(self) -> dict[int, str]:
        return {event.core: event.why for event in self.events if isinstance(event, CoreRetired)}


@pytest.fixture
def stage(monkeypatch, tmp_path):
    yield Stage(monkeypatch, tmp_path)
    assert multiprocess.active_children() == [], "a worker has outlived its supervisor"
