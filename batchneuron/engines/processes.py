"""Local processes: one worker per core of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchneuron.backends.backend import Core
from batchneuron.planning.plan import Shard
from batchneuron.workers.events import Event
from batchneuron.workers.handout import Claims
from batchneuron.workers.supervise import Supervisor
from batchneuron.workers.work_order import WorkOrder


@dataclass(frozen=True, slots=True)
class ProcessEngine:
    """Spawned worker processes, one per core given."""

    cores: tuple[Core, ...]

    def run(
        self,
        order: WorkOrder,
        shards: Sequence[Shard],
        listener: Callable[[Event], None],
        is_stopped: Callable[[], bool],
        claims: Claims | None = None,
    ) -> None:
        """Do the shards on all cores."""
        hang_s = order.spec.errors.hang_s
        Supervisor(order, self.cores, listener, is_stopped, claims, hang_s=hang_s).run(shards)
