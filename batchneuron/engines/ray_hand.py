"""One actor of a Ray cluster, as a supervisor sees a worker.

The driver always waits for one answer of each actor: where it is, that it has begun, or what it tells. An
answer that is an error is the actor's end.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchneuron.engines.ray_letters import Letter, Parcel, Placed, Returned, Wanted
from batchneuron.engines.ray_node import read_pulse, signal_process
from batchneuron.errors import BackendError, WorkerFailed
from batchneuron.workers.case import Assignment
from batchneuron.workers.crew import Death
from batchneuron.workers.events import Event, Failure
from batchneuron.workers.pulse import Place
from batchneuron.workers.worker import DUMP_SIGNAL

_POST_MORTEM_S = 20.0
_LAST_LINES = 6
_DETAIL = "Worker exit detail: "
_MEMORY_MONITOR = "memory monitor"  # Ray's own, which ends a node's largest worker before the kernel does
_SAME = "the same batchneuron must be installed on all nodes"


@dataclass(slots=True)
class RayHand:
    """One actor, and the answer that the driver waits for."""

    actor: Any
    begin: Callable[[RayHand, Placed], Any]
    pack: Callable[[str], Parcel]
    answer: Any = None
    placed: Placed | None = None
    is_buried: bool = False
    results: list[Any] = field(default_factory=list)
    """Of the call that it made instead of shards."""
    _beats: int = 0
    _places: Sequence[Place] = ()
    _error: Exception | None = None
    _is_over: bool = False
    _is_stuck: bool = False

    @property
    def is_placed(self) -> bool:
        """Whether its process runs."""
        return self.placed is not None

    def send(self, message: Assignment | None) -> None:
        """A call that nobody waits for; a dead actor's next answer is an error."""
        self.actor.give.remote(message)

    def receive(self) -> Sequence[Event] | None:
        """What the answer brings; the next one is asked for."""
        import ray

        if self._is_over:
            return None
        try:
            answer: Placed | Letter = ray.get(self.answer)
        except ray.exceptions.RayError as error:
            self._error = error
            return None
        if isinstance(answer, Placed):
            self.placed, self.answer = answer, self.begin(self, answer)
            return ()
        self._beats, self._places, self._is_over = answer.beats, answer.places, answer.is_last
        if not self._is_over:
            self.answer = self.actor.fetch.remote()
        for wanted in (told for told in answer.told if isinstance(told, Wanted)):
            self.actor.deliver.remote(self.pack(wanted.name))
        self.results += [told.result for told in answer.told if isinstance(told, Returned)]
        return [told for told in answer.told if not isinstance(told, (Wanted, Returned))]

    def kill(self) -> None:
        """Ray ends the process, or forgets an actor that waits."""
        import ray

        ray.kill(self.actor)
        if self._is_stuck and self.placed is not None:  # one that is stopped takes no calls, from Ray either
            _call_on(self.placed.node, signal_process, self.placed.process, int(signal.SIGKILL))

    def count_beats(self) -> int | None:
        """As the last answer told; one that comes no more stands still, too."""
        return self._beats

    def find_places(self) -> Sequence[Place]:
        """From the last answer; of a dead one from its file, if its node still lives."""
        return self._places

    def dump_stacks(self) -> None:
        """A signal, sent by a task on its node."""
        self._is_stuck = True
        if self.placed is not None:
            _call_on(self.placed.node, signal_process, self.placed.process, int(DUMP_SIGNAL))

    def bury(self) -> Death:
        """Let Ray end it, and ask its node what it had in hand."""
        import ray

        self.kill()
        self.is_buried = True
        is_machines = self.placed is not None and not _is_alive(self.placed.node)
        if self._error is not None and self.placed is not None and not is_machines:
            with contextlib.suppress(ray.exceptions.RayError):
                asked = _call_on(self.placed.node, read_pulse, self.placed.pulse)
                self._places = ray.get(asked, timeout=_POST_MORTEM_S)
        host = self.placed.host if self.placed is not None else "the cluster"
        is_machines = is_machines or bool(getattr(self._error, "preempted", False))
        return Death(_describe_end(self._error, host), is_machines)


def _call_on(node: str, call: Callable[..., Any], *given: Any) -> Any:
    """The answer of a call on one node, to be waited for; it reserves nothing there."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(call).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(*given)


def _is_alive(node: str) -> bool:
    import ray

    return any(known["NodeID"] == node and known["Alive"] for known in ray.nodes())


def _describe_end(error: Exception | None, host: str) -> Failure:
    """What Ray says of an actor's end; one whose class could not be made would fail anywhere."""
    import ray

    cannot_start = isinstance(error, (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError))
    cannot_start = cannot_start or bool(getattr(error, "actor_init_failed", False))
    kind = BackendError if cannot_start else WorkerFailed
    text = str(error).strip() if error is not None else "its work ended before its shards"
    is_short = isinstance(error, ray.exceptions.OutOfMemoryError) or _MEMORY_MONITOR in text
    lines = text.splitlines()
    if cannot_start:
        message = f"an actor cannot start on {host}; {_SAME}\n" + "\n".join(lines[-_LAST_LINES:])
    else:
        told = next((found for line in lines if (found := line.partition(_DETAIL)[2])), lines[-1])
        message = f"an actor on {host} died: {told}"
    return Failure(
        error=kind.__name__,
        message=message,
        exit_code=kind.exit_code,
        retryable=not cannot_start,
        traceback="",
        code="out_of_memory" if is_short else "worker_crash",
    )
