"""Actors of a Ray cluster as a supervisor's crew: started, given shards, listened to, buried.

Ray's scheduler places them. One that has no room yet waits, and an autoscaler that sees it wait may add a
node; Ray never starts one again by itself, because what it had in hand is the supervisor's to decide.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from batchneuron.backends.backend import Core
from batchneuron.engines.ray_actor import ShardActor
from batchneuron.engines.ray_files import pack_files
from batchneuron.engines.ray_hand import RayHand
from batchneuron.engines.ray_letters import Berth, Parcel, Placed
from batchneuron.workers.crew import Hand
from batchneuron.workers.events import Event, RoomAwaited
from batchneuron.workers.work_order import WorkOrder

_THREADS = 4  # of an actor: one fetch waits while shards are given
_MOST_WAITING = 100
_TELL_AFTER_S = 20.0


@dataclass(frozen=True, slots=True)
class Needs:
    """What Ray reserves for each actor."""

    resource: str
    """One unit of it: `neuron_cores`, or `CPU`."""
    memory_bytes: int

    def as_options(self) -> dict[str, Any]:
        """For `ActorClass.options`."""
        own = {} if self.resource == "CPU" else {self.resource: 1}
        return {
            "num_cpus": 1,
            "resources": own,
            "memory": self.memory_bytes,
            "max_restarts": 0,
            "max_concurrency": _THREADS,
        }

    def __str__(self) -> str:
        asked = {"CPU": 1.0, self.resource: 1.0, "memory": float(self.memory_bytes)}
        return f"each actor needs {_show(asked)}"


@dataclass(slots=True)
class RayCrew:
    """Starts actors; as many as were wished for, or as many as there is room for and some that wait."""

    order: WorkOrder
    berth: Berth
    needs: Needs
    most: int
    """Actors that there is work for."""
    wished: int | None = None
    """Actors in all; None: as the cluster grows."""
    tell: Callable[[Event], None] = lambda _: None
    _hands: list[RayHand] = field(default_factory=list)
    _cores: int = 0
    _order_ref: Any = None
    _parcels: dict[str, Parcel] = field(default_factory=dict)
    _homeless_s: float | None = None
    """Since when no actor has had a place."""

    def find_cores(self) -> Sequence[Core]:
        """Numbers for new actors: half of them may wait, so that an autoscaler can double the cluster."""
        count = self.wished
        if count is None:
            self._hands = [hand for hand in self._hands if not hand.is_buried]
            placed = sum(hand.is_placed for hand in self._hands)
            room = max(placed, int(self._read_total())) if not self._cores else placed
            count = room + min(_MOST_WAITING, max(1, room))
        new = range(self._cores, min(count, self.most))
        self._cores = max(self._cores, new.stop)
        return tuple(Core(number) for number in new)

    def start(self, order: WorkOrder, core: Core) -> RayHand:
        """A new actor, which waits for room if there is none."""
        import ray

        if self._order_ref is None:
            self._order_ref = ray.put(order)
        made = ray.remote(ShardActor).options(**self.needs.as_options()).remote()
        hand = RayHand(made, self._begin, self._pack)
        hand.answer = made.locate.remote()
        self._hands.append(hand)
        return hand

    def wait(self, hands: Sequence[Hand], timeout_s: float) -> Sequence[Hand]:
        """Those whose answer is there, or is an error."""
        import ray

        self._watch_room(hands)
        by_answer = {hand.answer: hand for hand in hands if isinstance(hand, RayHand)}
        ready, rest = ray.wait(list(by_answer), num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready and rest:
            more, _ = ray.wait(rest, num_returns=len(rest), timeout=0, fetch_local=False)
            ready += more
        return [by_answer[answer] for answer in ready]

    def _begin(self, hand: RayHand, placed: Placed) -> Any:
        units = _read_resources(placed.node).get(self.needs.resource, 1.0)
        return hand.actor.begin.remote(self._order_ref, replace(self.berth, node_units=max(1, int(units))))

    def _pack(self, name: str) -> Parcel:
        """Files that a node wants: put into the object store once for all nodes."""
        if name not in self._parcels:
            self._parcels[name] = pack_files(self.order, name)
        return self._parcels[name]

    def _watch_room(self, hands: Sequence[Hand]) -> None:
        """Tell, now and then, that no actor has found room."""
        now_s = time.monotonic()
        if self._homeless_s is None or any(hand.is_placed for hand in hands):
            self._homeless_s = now_s
        elif now_s - self._homeless_s > _TELL_AFTER_S:
            self._homeless_s = now_s
            self.tell(RoomAwaited(f"{self.needs}; in all it has {_show(self._read_resources())}"))

    def _read_total(self) -> float:
        return float(self._read_resources().get(self.needs.resource, 0.0))

    def _read_resources(self) -> Mapping[str, float]:
        import ray

        resources: Mapping[str, float] = ray.cluster_resources()
        return resources


def _show(resources: Mapping[str, float]) -> str:
    """`4 CPU, 2 neuron_cores, 12.0 GiB memory`; what else a node is called by is left out."""
    known = [f"{resources.get(name, 0):g} {name}" for name in ("CPU", "neuron_cores") if name in resources]
    return ", ".join([*known, f"{resources.get('memory', 0.0) / (1 << 30):.1f} GiB memory"])


def _read_resources(node: str) -> Mapping[str, float]:
    import ray

    return next((known["Resources"] for known in ray.nodes() if known["NodeID"] == node), {})
