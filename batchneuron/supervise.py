"""Supervise: worker processes that take shards, die, and are replaced.

Knows processes, pipes and attempts; knows nothing of rows or models. Each worker has a pipe of its own,
so that a worker killed in the middle of a message harms no other.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import multiprocess
from multiprocess import resource_tracker
from multiprocess.connection import wait

from batchneuron import worker
from batchneuron.backends.backend import Core
from batchneuron.errors import BatchNeuronError, WorkerFailed
from batchneuron.events import Event, Failure, PartDone, ShardFailed, WorkerBroken, WorkerReady
from batchneuron.handout import Claims, HandOut
from batchneuron.plan import Shard
from batchneuron.roster import Roster
from batchneuron.work_order import WorkOrder

MAX_ATTEMPTS = 3
_AHEAD = 3  # shards in a worker's hands: one being tokenised, one on the device, one being written
_POLL_S = 0.5
_PAUSE_S = 0.05
_GRACE_S = 5.0
_ELSEWHERE = "what is done stays: run the same command again, here or on another instance"


@dataclass(slots=True)
class _Worker:
    """A process, its pipe, and what it has in its hands."""

    process: Any
    connection: Any
    core: Core
    shards: list[Shard] = field(default_factory=list)
    last: Shard | None = None
    is_ready: bool = False
    is_told_to_end: bool = False
    failure: Failure | None = None
    """What it reported last; it gets nothing more after that."""

    @property
    def is_at_work(self) -> bool:
        return self.is_ready and not self.is_told_to_end and self.failure is None


@dataclass(slots=True)
class Supervisor:
    """Runs shards on one worker per core until all are done, or one failure stops it all."""

    order: WorkOrder
    cores: Sequence[Core]
    listener: Callable[[Event], None]
    is_stopped: Callable[[], bool]
    """Asked all the time; once true, nothing more is handed out."""
    claims: Claims | None = None
    """Of other runners; None: there is no other."""
    _workers: list[_Worker] = field(default_factory=list)
    _attempts: Counter[int] = field(default_factory=Counter)
    _roster: Roster = field(init=False)
    _error: BatchNeuronError | None = None

    def run(self, shards: Sequence[Shard]) -> None:
        """Do the shards.

        Raises:
            BatchNeuronError: whatever stopped the work; what was committed stays.
        """
        handout = HandOut(shards, self.claims)
        self._roster = Roster(self.cores)
        resource_tracker.ensure_running()  # starting it later would undo the first worker's signal mask
        try:
            while True:
                if self.is_stopped() or self._error is not None:
                    handout.clear()
                self._start_workers(handout)
                if not self._workers and not (len(handout) and len(self._roster)):
                    break
                self._feed(handout)
                news = handout.news()
                if news is not None:
                    self._tell(news)
                self._listen(handout)
        finally:
            self._end_all()
        if self._error is not None:
            raise self._error

    def _start_workers(self, handout: HandOut) -> None:
        """A worker on each core that is due, and no more workers than shards."""
        while len(handout) and len(self._workers) < len(handout) + self._count_held():
            core = self._roster.take()
            if core is None:
                return
            self._start(core)

    def _count_held(self) -> int:
        return sum(len(each.shards) for each in self._workers)

    def _start(self, core: Core) -> None:
        context = multiprocess.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=worker.main, args=(self.order, core, theirs), daemon=True, name=f"batchneuron-{core.index}"
        )
        # Ctrl-C goes to the whole group; a worker inherits the mask and never sees it, even while it
        # still imports.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self._workers.append(_Worker(process, ours, core))

    def _feed(self, handout: HandOut) -> None:
        """Top up every worker; tell those that will get nothing more to end."""
        for each in self._workers:
            # Before the last shards, nobody may hoard one that an idle worker could start.
            share = _AHEAD if len(handout) > len(self._workers) else 1
            while each.is_at_work and len(each.shards) < share:
                # Of two failures on one core nobody knows whether it was the shard.
                core = each.core.index if self._has_other_core(each) else None
                shard = handout.take(each.last, unless_failed_on=core)
                if shard is None:
                    break
                each.shards.append(shard)
                each.last = shard
                _send(each, shard)
        if not len(handout) and not any(each.shards for each in self._workers):
            for each in self._workers:
                _tell_to_end(each)

    def _listen(self, handout: HandOut) -> None:
        """Wait for news, and act on all of it."""
        by_handle = {each.connection: each for each in self._workers}
        if not by_handle:
            time.sleep(_PAUSE_S)  # all cores rest before their next start
        for handle in wait(list(by_handle), timeout=_POLL_S if by_handle else 0):
            each = by_handle[handle]
            event = _receive(each)
            if event is None:
                self._bury(each, handout)
            else:
                self._act(each, event, handout)

    def _act(self, each: _Worker, event: Event, handout: HandOut) -> None:
        match event:
            case WorkerReady():
                each.is_ready = True
            case PartDone(shard=index):
                each.shards = [shard for shard in each.shards if shard.index != index]
                self._roster.note_part(each.core)
            case ShardFailed(shard=index, failure=failure):
                self._take_failed(each, index, failure, handout)
            case WorkerBroken(failure=failure):
                each.failure = failure
        self._tell(event)

    def _tell(self, event: Event) -> None:
        try:
            self.listener(event)
        except BatchNeuronError as error:
            self._error = self._error or error

    def _take_failed(self, each: _Worker, index: int, failure: Failure, handout: HandOut) -> None:
        """A shard that could not be done; its worker goes on only where the shard is at fault.

        What may be gone next time is the process or the device, and a fresh worker finds out. The shards
        behind it have failed with it; they lose no attempt, and neither does one that a lost core took along.
        """
        failed = next(shard for shard in each.shards if shard.index == index)
        each.shards.remove(failed)
        if failure.retires_core or each.failure is not None:
            handout.give_back(failed, each.core.index)
        else:
            self._retry(failed, failure, each.core, handout)
        if failure.retryable and each.failure is None:
            each.failure = failure
            each.process.kill()

    def _bury(self, dead: _Worker, handout: HandOut) -> None:
        """A worker's pipe is closed: take back its shards and its core."""
        dead.process.join(_GRACE_S)
        dead.process.kill()  # whoever closed its pipe and lives on holds a core
        self._workers.remove(dead)
        dead.connection.close()
        if dead.is_told_to_end and not dead.shards:
            return
        failure = dead.failure or _describe_death(dead)
        # One of them killed it, most likely the oldest; the others must not lose an attempt with it.
        charged = 0 if dead.failure is not None else 1
        for shard in dead.shards[charged:]:
            handout.give_back(shard)
        for shard in dead.shards[:charged]:
            self._retry(shard, failure, dead.core, handout)
        if dead.is_ready and dead.failure is None:
            self._roster.put_back(dead.core)
        elif not failure.retryable:
            self._stop(failure, "a worker could not start")
        else:
            self._judge(dead, failure)

    def _judge(self, dead: _Worker, failure: Failure) -> None:
        """Try the core again, or give it up; the last one takes the job with it."""
        retired = self._roster.put_back_failed(dead.core, failure, was_ready=dead.is_ready)
        if retired is None:
            return
        self._tell(retired)
        if not len(self._roster) and all(each.is_told_to_end for each in self._workers):
            why = "was lost" if failure.retires_core else "could not start" if not dead.is_ready else "failed"
            self._stop(failure, f"no core is left: core {dead.core.index} {why}", _ELSEWHERE)

    def _has_other_core(self, each: _Worker) -> bool:
        return any(other.core.index != each.core.index for other in self._workers)

    def _retry(self, shard: Shard, failure: Failure, core: Core, handout: HandOut) -> None:
        self._attempts[shard.index] += 1
        if failure.retryable and self._attempts[shard.index] < MAX_ATTEMPTS:
            handout.give_back(shard, core.index)
        else:
            self._stop(failure, f"shard {shard.index}")

    def _stop(self, failure: Failure, where: str, hint: str = "") -> None:
        if self._error is None:
            self._error = rebuild_error(failure, where, hint)

    def _end_all(self) -> None:
        for each in self._workers:
            each.process.kill()
        for each in self._workers:
            each.process.join(_GRACE_S)
        self._workers.clear()


def rebuild_error(failure: Failure, where: str, hint: str = "") -> BatchNeuronError:
    """An error with the exit code and the text of one that happened in a worker."""
    known = {kind.__name__: kind for kind in _iter_kinds(BatchNeuronError)}
    kind = known.get(failure.error, BatchNeuronError)
    if failure.error not in known:
        return kind(
            f"{failure.message}\n{failure.traceback}", where, "this is a bug of ours: please report it"
        )
    return _kind_with_text(kind)(failure.message, where, hint)


def _kind_with_text(kind: type[BatchNeuronError]) -> type[BatchNeuronError]:
    """The kind itself, or the nearest above it that is built from a text."""
    while kind.__init__ is not BatchNeuronError.__init__:
        kind = kind.__mro__[1]
    return kind


def _iter_kinds(kind: type[BatchNeuronError]) -> list[type[BatchNeuronError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in _iter_kinds(child))]


def _describe_death(dead: _Worker) -> Failure:
    code = dead.process.exitcode
    how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    hint = "; SIGKILL often means that memory ran out: try fewer workers" if code == -signal.SIGKILL else ""
    return Failure(
        error=WorkerFailed.__name__,
        message=f"a worker died with {how}{hint}",
        exit_code=WorkerFailed.exit_code,
        retryable=True,
        traceback="",
    )


def _tell_to_end(each: _Worker) -> None:
    """Once; a worker that is still loading has nothing to lose and is not waited for."""
    if each.is_told_to_end:
        return
    each.is_told_to_end = True
    if each.is_ready:
        _send(each, None)
    else:
        each.process.kill()


def _send(each: _Worker, message: Shard | None) -> None:
    try:
        each.connection.send(message)
    except OSError:
        return  # it died; its closed pipe says so at the next wait


def _receive(each: _Worker) -> Event | None:
    try:
        event: Event = each.connection.recv()
    except (EOFError, OSError):
        return None
    return event
