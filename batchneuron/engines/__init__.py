"""The engines, one file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice, pairwise
from typing import Literal

from batchneuron.backends.backend import Backend, Core
from batchneuron.backends.machine import available_memory_bytes
from batchneuron.engines.engine import Engine
from batchneuron.engines.inline import InlineEngine
from batchneuron.engines.processes import ProcessEngine
from batchneuron.model import Model


def open_engine(workers: int, backend: Backend) -> Engine:
    """The engine for so many workers; with more workers than cores, cores are shared."""
    if workers == 0:
        return InlineEngine()
    return ProcessEngine(deal_cpus(backend.list_cores(), workers))


def deal_cpus(cores: Sequence[Core], workers: int) -> tuple[Core, ...]:
    """A core for each worker; of CPU cores that have none, the neighbour's worker gets the CPUs.

    What a worker does with them is its backend's affair: one whose results depend on the number of its
    threads leaves them to the threads that read and write.
    """
    if workers >= len(cores) or any(core.is_exclusive for core in cores):
        return tuple(islice(cycle(cores), workers))
    edges = [len(cores) * number // workers for number in range(workers + 1)]
    return tuple(
        replace(cores[begin], cpus=tuple(cpu for core in cores[begin:end] for cpu in core.cpus))
        for begin, end in pairwise(edges)
    )


def count_workers(backend: Backend, model: Model, wished: int | Literal["auto"] = "auto") -> int:
    """As many as are wished for and have a core; `auto`: one per core, as memory holds, and at least one."""
    if wished == 0:
        return 0
    cores = backend.list_cores()
    if wished == "auto":
        fitting = available_memory_bytes() // backend.memory_per_worker_bytes(model)
        return max(1, min(len(cores), fitting))
    return min(wished, len(cores)) if any(core.is_exclusive for core in cores) else wished
