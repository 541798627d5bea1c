"""One call on a cluster, before there are workers: where the driver's own machine has no device for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from batchneuron.backends.backend import Backend, Core
from batchneuron.engines.ray_cluster import Cluster, connect, describe_driver, name_needs
from batchneuron.engines.ray_crew import RayCrew
from batchneuron.errors import WorkerFailed
from batchneuron.workers.events import Failure, WorkerBroken
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.work_order import WorkOrder

_Result = TypeVar("_Result")
_POLL_S = 1.0


def call_on_cluster(cluster: Cluster, backend: Backend, call: Callable[[], _Result], name: str) -> _Result:
    """What the call returns, made in an actor as if a worker made it.

    Args:
        cluster: where.
        backend: says what a core is.
        call: a `partial` of a module's function, whose first argument is the work order.
        name: what is done, for people: `parity check`.

    Raises:
        BatchNeuronError: whatever the call raises.
        WorkerFailed: the actor died.
    """
    bound = cast("partial[_Result]", call)
    order: WorkOrder = bound.args[0]
    with connect(cluster):
        berth = replace(describe_driver(order, backend, ()), call=bound)
        crew = RayCrew(order, berth, name_needs(backend, order), most=1, wished=1)
        hand = crew.start(order, Core(0))
        told: list[Any] = []
        try:
            while (events := _listen(crew, hand)) is not None:
                told += events
            death = hand.bury()
        finally:
            hand.kill()
    broken = next((event.failure for event in told if isinstance(event, WorkerBroken)), None)
    if broken is not None:
        raise rebuild_error(broken, name)
    if not hand.results:
        raise WorkerFailed(f"the actor of the {name} died: {death.failure.message}", hint="run it again")
    result: _Result | Failure = hand.results[0]
    if isinstance(result, Failure):
        raise rebuild_error(result, name)
    return result


def _listen(crew: RayCrew, hand: Any) -> Any:
    while not crew.wait([hand], _POLL_S):
        pass
    return hand.receive()
