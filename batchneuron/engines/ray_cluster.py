"""A Ray cluster: the same shards, on as many actors as it has room for.

Needs the extra `ray`. The driver plans, compiles, hands out and reports; what fails is decided by the
same supervisor as on one machine.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchneuron.backends.backend import Backend
from batchneuron.engines.ray_crew import Needs, RayCrew
from batchneuron.engines.ray_files import stamp_model
from batchneuron.engines.ray_letters import Berth
from batchneuron.engines.ray_node import NEURON_CORES, describe_node
from batchneuron.errors import BackendError
from batchneuron.planning.plan import Shard
from batchneuron.workers.events import Event
from batchneuron.workers.handout import Claims
from batchneuron.workers.supervise import Supervisor
from batchneuron.workers.work_order import WorkOrder

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster."""

    address: str | None = None
    """`auto`, HOST:PORT or ray://HOST:PORT; None: what RAY_ADDRESS says, one that runs here, or a new one."""


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Actors of a cluster, one for each NeuronCore or CPU."""

    cluster: Cluster
    backend: Backend
    workers: int | Literal["auto"]
    """Actors; `auto`: as many as there is room for, and more as the cluster grows."""

    def run(
        self,
        order: WorkOrder,
        shards: Sequence[Shard],
        listener: Callable[[Event], None],
        is_stopped: Callable[[], bool],
        claims: Claims | None = None,
    ) -> None:
        """Do the shards on the cluster.

        Raises:
            BackendError: there is no such cluster, Ray is not installed, or a node is not like this machine.
        """
        with connect(self.cluster):
            crew = RayCrew(
                order,
                describe_driver(order, self.backend, shards),
                name_needs(self.backend, order),
                most=len(shards),
                wished=None if self.workers == "auto" else self.workers,
                tell=listener,
            )
            hang_s = order.spec.errors.hang_s
            Supervisor(order, (), listener, is_stopped, claims, crew, hang_s).run(shards)


def name_needs(backend: Backend, order: WorkOrder) -> Needs:
    """What Ray reserves for an actor: a core, as Ray counts it, and memory."""
    resource = NEURON_CORES if backend.facts.kind.startswith("neuron") else "CPU"
    return Needs(resource, backend.memory_per_worker_bytes(order.request.model))


def describe_driver(order: WorkOrder, backend: Backend, shards: Sequence[Shard]) -> Berth:
    """What nodes are held against."""
    return Berth(
        folder=str(Path.cwd()),
        facts=describe_node(order.request.task, backend.facts),
        model_files=stamp_model(order.request.model),
        probe=next((piece.file for shard in shards for piece in shard.slices), None),
    )


@contextmanager
def connect(cluster: Cluster) -> Iterator[None]:
    """This process as a driver of the cluster, unless it is one already.

    Raises:
        BackendError: Ray is not installed, or the cluster does not answer.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    is_main = threading.current_thread() is threading.main_thread()
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"no Ray cluster answers: {_first_line(error)}",
            f"--address {cluster.address or 'auto'}",
            "start one with `ray start --head`, or name it: HOST:6379",
        ) from error
    for number, handler in before.items() if is_main else ():
        signal.signal(number, handler)  # Ray has put its own in its place, which would not drain
    try:
        yield
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise BackendError(
            "Ray is not installed",
            "--engine ray",
            "pip install '.[ray]' in the folder of batchneuron's repository, here and on every node",
        ) from error
    return ray


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
