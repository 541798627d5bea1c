"""The engines, one file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle, islice, pairwise
from typing import Literal

from batchneuron.backends.backend import Backend, Core
from batchneuron.backends.machine import available_memory_bytes
from batchneuron.engines.engine import Engine
from batchneuron.engines.inline import InlineEngine
from batchneuron.engines.processes import ProcessEngine
from batchneuron.engines.ray_aside import call_on_cluster
from batchneuron.engines.ray_cluster import Cluster, RayEngine
from batchneuron.errors import Problem, SpecError
from batchneuron.model import Model
from batchneuron.workers.aside import Aside, call_aside

__all__ = [
    "Cluster",
    "choose_aside",
    "count_workers",
    "deal_cpus",
    "open_cluster_engine",
    "open_engine",
]


def open_engine(workers: int, backend: Backend) -> Engine:
    """The engine for so many workers; with more workers than cores, cores are shared."""
    if workers == 0:
        return InlineEngine()
    return ProcessEngine(deal_cpus(backend.list_cores(), workers))


def open_cluster_engine(cluster: Cluster, backend: Backend, wished: int | Literal["auto"]) -> Engine:
    """The engine of a cluster.

    Raises:
        SpecError: `backend.workers: 0` is the calling process, which is on no cluster.
    """
    if wished == 0:
        hint = "leave it out, or give the number of actors"
        raise SpecError((Problem("--engine ray", "backend.workers", "0 means no worker at all", hint),))
    return RayEngine(cluster, backend, wished)


def choose_aside(backend: Backend, workers: int | Literal["auto"], cluster: Cluster | None) -> Aside:
    """Where something is done before there are workers: where one of them will be."""
    if cluster is not None:
        return partial(call_on_cluster, cluster, backend)
    cores = () if workers == 0 else backend.list_cores()
    if not any(core.is_exclusive for core in cores):
        cores = deal_cpus(cores, 1)  # no worker needs them yet
    return lambda call, name: call_aside(call, cores, name)


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
