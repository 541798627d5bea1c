"""The debugger's twin: every shard in the calling process, one stage after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchneuron.planning.plan import Shard
from batchneuron.stages.runner import open_runner
from batchneuron.workers.docket import Docket, explain_end, tell_found
from batchneuron.workers.events import BatchDone, Event, ShardFailed
from batchneuron.workers.handout import Claims, HandOut
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.work_order import WorkOrder
from batchneuron.workers.worker import run_one

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
        """Do the shards in order; one that a row made fail again, alone or without it, as workers would."""
        told: list[int] = []  # the listener's own errors are none of the shard's
        runner = open_runner(order, told.append)
        handout, docket, last = HandOut(shards, claims), Docket(), None
        while not is_stopped():
            shard = handout.take(last)
            news = handout.news()
            if news is not None:
                listener(news)
            if shard is not None:
                done = run_one(runner, docket.assign(shard))
                for tokens in told:
                    listener(BatchDone(tokens))
                told.clear()
                if isinstance(done, ShardFailed):
                    _charge(docket, shard, done, listener)
                    handout.give_back(shard)
                else:
                    docket.close(shard.index)
                    listener(done)
                last = shard
            elif len(handout):
                time.sleep(_POLL_S)
            else:
                return


def _charge(docket: Docket, shard: Shard, failed: ShardFailed, listener: Callable[[Event], None]) -> None:
    """Lay a failure at a shard's door, which is then done again.

    Raises:
        BatchNeuronError: it was no row's, or rows of it have failed too often.
    """
    failure = failed.failure
    if not failure.code:
        raise rebuild_error(failure, f"shard {shard.index}")
    verdict = docket.charge(shard, failure, failed.place)
    found = tell_found(shard, verdict)
    if found is not None:
        listener(found)
    if verdict.hopeless:
        raise explain_end(shard, verdict, failure)
