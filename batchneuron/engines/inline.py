"""The debugger's twin: every shard in the calling process, one stage after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchneuron.planning.plan import Shard
from batchneuron.stages.runner import open_runner
from batchneuron.workers.events import BatchDone, Event
from batchneuron.workers.handout import Claims, HandOut
from batchneuron.workers.work_order import WorkOrder

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class InlineEngine:
    """No processes, no threads; a breakpoint anywhere works."""

    def run(
        self,
        order: WorkOrder,
        shards: Sequence[Shard],
        listener: Callable[[Event], None],
        is_stopped: Callable[[], bool],
        claims: Claims | None = None,
    ) -> None:
        """Do the shards in order."""
        runner = open_runner(order, lambda tokens: listener(BatchDone(tokens)))
        handout, last = HandOut(shards, claims), None
        while not is_stopped():
            shard = handout.take(last)
            news = handout.news()
            if news is not None:
                listener(news)
            if shard is not None:
                listener(runner.run(shard))
                last = shard
            elif len(handout):
                time.sleep(_POLL_S)
            else:
                return
