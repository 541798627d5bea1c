"""The engines, one file each."""

from __future__ import annotations

from itertools import cycle, islice

from batchneuron.backends.backend import Backend
from batchneuron.backends.machine import available_memory_bytes
from batchneuron.engines.engine import Engine
from batchneuron.engines.inline import InlineEngine
from batchneuron.engines.processes import ProcessEngine
from batchneuron.model import Model


def open_engine(workers: int, backend: Backend) -> Engine:
    """The engine for so many workers; with more workers than cores, cores are shared."""
    if workers == 0:
        return InlineEngine()
    return ProcessEngine(tuple(islice(cycle(backend.list_cores()), workers)))


def count_workers(backend: Backend, model: Model) -> int:
    """One worker per core, as many as memory holds, and at least one."""
    fitting = available_memory_bytes() // backend.memory_per_worker_bytes(model)
    return max(1, min(len(backend.list_cores()), fitting))
