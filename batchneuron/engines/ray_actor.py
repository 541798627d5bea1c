"""One worker as an actor of a Ray cluster: the same threads and stages, its shards brought by calls.

The process is Ray's, so that only a thread of it becomes a worker: that thread takes the core, and all
threads that do the work come from it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import socket
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from batchneuron.backends import open_backend
from batchneuron.engines.ray_files import localise
from batchneuron.engines.ray_letters import Berth, Letter, Outbox, Parcel, Placed, Returned, Wanted
from batchneuron.engines.ray_node import (
    choose_core,
    open_pulse,
    require_input,
    require_run_folder,
    require_same,
)
from batchneuron.stages.runner import Runner, open_runner
from batchneuron.workers.case import Assignment
from batchneuron.workers.events import BatchDone, Failure, WorkerBroken, WorkerReady
from batchneuron.workers.pulse import Pulse
from batchneuron.workers.work_order import WorkOrder
from batchneuron.workers.worker import DUMP_SIGNAL, Inbox, attempt, run_shards, take_core


class ShardActor:
    """What the driver calls; each method returns at once, but for `fetch`."""

    def __init__(self) -> None:
        self._outbox = Outbox()
        self._inbox: Inbox = queue.SimpleQueue()
        self._parcels: queue.SimpleQueue[Parcel] = queue.SimpleQueue()
        self._pulse_file, cells = open_pulse()
        self._pulse = Pulse(cells)
        faulthandler.register(DUMP_SIGNAL)

    def locate(self) -> Placed:
        """Where this process runs."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return Placed(node, socket.gethostname(), os.getpid(), self._pulse_file)

    def begin(self, order: WorkOrder, berth: Berth) -> Letter:
        """Load the executables, then do the shards that come; an empty letter says that it has begun."""
        threading.Thread(target=self._work, args=(order, berth), daemon=True, name="work").start()
        return Letter((), is_last=False)

    def give(self, message: Assignment | None) -> None:
        """A shard to do, or None: no more will come."""
        self._inbox.put(message)

    def deliver(self, parcel: Parcel) -> None:
        """Files that were wanted."""
        self._parcels.put(parcel)

    def fetch(self) -> Letter:
        """What has happened; waits for it, but not for long."""
        letter = self._outbox.fetch()
        return replace(letter, beats=self._pulse.count_beats(), places=self._pulse.read())

    def _work(self, order: WorkOrder, berth: Berth) -> None:
        started = time.perf_counter()
        try:
            if berth.call is not None:
                self._outbox.put(Returned(attempt(lambda: self._call(order, berth))))
                return
            runner = attempt(lambda: self._open(order, berth))
            if isinstance(runner, Failure):
                self._outbox.put(WorkerBroken(runner))
                return
            self._outbox.put(WorkerReady(time.perf_counter() - started))
            run_shards(runner, self._inbox, self._outbox.put)
        finally:
            self._outbox.close()
            Path(self._pulse_file).unlink()

    def _open(self, order: WorkOrder, berth: Berth) -> Runner:
        """A runner on this node."""
        require_run_folder(order)
        order = self._settle(order, berth)
        return open_runner(order, lambda tokens: self._outbox.put(BatchDone(tokens)), self._pulse)

    def _call(self, order: WorkOrder, berth: Berth) -> Any:
        """What the call gives for the order as this node has it, and its other arguments."""
        call = cast("partial[Any]", berth.call)
        return call.func(self._settle(order, berth), *call.args[1:], **call.keywords)

    def _settle(self, order: WorkOrder, berth: Berth) -> WorkOrder:
        """The order as it is here, once the node is found to be as the driver expects it; takes a core."""
        with contextlib.suppress(OSError):  # on a node without that folder no path may be relative
            os.chdir(berth.folder)
        require_same(order, berth.facts)
        require_input(berth.probe)
        take_core(choose_core(open_backend(order.spec).list_cores(), berth.node_units))
        return localise(order, berth.model_files, self._ask)

    def _ask(self, name: str) -> Parcel:
        """Files of the driver's."""
        self._outbox.put(Wanted(name))
        return self._parcels.get()
