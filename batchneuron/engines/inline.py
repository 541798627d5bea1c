"""The debugger's twin: every shard in the calling process, one stage after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchneuron.events import BatchDone, Event
from batchneuron.plan import Shard
from batchneuron.runner import open_runner
from batchneuron.work_order import WorkOrder


@dataclass(frozen=True, slots=True)
class InlineEngine:
    """No processes, no threads; a breakpoint anywhere works."""

    def run(
        self,
        order: WorkOrder,
        shards: Sequence[Shard],
        listener: Callable[[Event], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        """Do the shards in order."""
        runner = open_runner(order, lambda tokens: listener(BatchDone(tokens)))
        for shard in shards:
            if is_stopped():
                return
            listener(runner.run(shard))
