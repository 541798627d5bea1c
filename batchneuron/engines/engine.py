"""The Engine seam: run these shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from batchneuron.planning.plan import Shard
from batchneuron.workers.events import Event
from batchneuron.workers.handout import Claims
from batchneuron.workers.work_order import WorkOrder


class Engine(Protocol):
    """Somewhere that shards can be done."""

    def run(
        self,
        order: WorkOrder,
        shards: Sequence[Shard],
        listener: Callable[[Event], None],
        is_stopped: Callable[[], bool],
        claims: Claims | None = None,
    ) -> None:
        """Do the shards, in about this order, and tell the listener.

        Leaves to other runners what `claims` says they do; None: there is no other.

        Returns early, without an error, when `is_stopped` has become true; the shards in hand are
        finished first. An error that the listener raises stops the work in the same way, and is raised.

        Raises:
            BatchNeuronError: what stopped the work; what was committed stays.
        """
