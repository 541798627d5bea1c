"""Supervise: workers that take shards, die, and are replaced.

Knows workers, cores and attempts; knows nothing of rows or models, nor what a worker is made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from batchneuron.backends.backend import Core
from batchneuron.errors import BackendError, BatchNeuronError
from batchneuron.planning.plan import Shard
from batchneuron.workers.crew import Crew
from batchneuron.workers.docket import Docket, explain_end, tell_found
from batchneuron.workers.events import (
    Event,
    Failure,
    PartDone,
    ShardFailed,
    WorkerBroken,
    WorkerLost,
    WorkerReady,
)
from batchneuron.workers.handout import Claims, HandOut
from batchneuron.workers.member import Member
from batchneuron.workers.pulse import Place
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.roster import Roster
from batchneuron.workers.watchdog import Action, Watchdog
from batchneuron.workers.work_order import WorkOrder
from batchneuron.workers.worker_process import ProcessCrew

AHEAD = 3  # shards in a worker's hands: one being tokenised, one on the device, one being written
_POLL_S = 0.5
_PAUSE_S = 0.05
_ELSEWHERE = "what is done stays: run the same command again, here or on another instance"
_MUTE = "see above what the workers wrote as they started; try fewer workers, if memory ran out"


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
    crew: Crew = field(default_factory=ProcessCrew)
    hang_s: float | None = None
    """How long a worker may stand still; None: long, and longer where its work is slow."""
    _workers: list[Member] = field(default_factory=list)
    _docket: Docket = field(default_factory=Docket)
    _short_of_memory: set[int] = field(default_factory=set)
    """Cores whose worker gets one shard at a time."""
    _roster: Roster = field(init=False)
    _watchdog: Watchdog = field(init=False)
    _error: BatchNeuronError | None = None
    _has_started: bool = False
    """Whether any worker was ever ready."""

    def run(self, shards: Sequence[Shard]) -> None:
        """Do the shards.

        Raises:
            BatchNeuronError: whatever stopped the work; what was committed stays.
        """
        handout = self.begin(shards)
        try:
            while self.turn(handout):
                pass
        finally:
            self._end_all()
        if self._error is not None:
            raise self._error

    def begin(self, shards: Sequence[Shard]) -> HandOut:
        """What is to be handed out, turn by turn; `run` does all of it."""
        self._roster = Roster(self.cores)
        self._watchdog = Watchdog(self.hang_s)
        return HandOut(shards, self.claims)

    def turn(self, handout: HandOut) -> bool:
        """Hand out, wait for what workers tell, and act on it; False: there is nothing left to do."""
        if self.is_stopped() or self._error is not None:
            handout.clear()
        self._start_workers(handout)
        if not self._workers and not (len(handout) and len(self._roster)):
            return False
        self._feed(handout)
        news = handout.news()
        if news is not None:
            self._tell(news)
        self._listen(handout)
        self._watch()
        return True

    def _start_workers(self, handout: HandOut) -> None:
        """A worker on each core that is due, and no more workers than shards."""
        for new in self.crew.find_cores():
            self._roster.put_back(new)
        while len(handout) and len(self._workers) < len(handout) + self._count_held():
            core = self._roster.take()
            if core is None:
                return
            self._workers.append(Member(self.crew.start(self.order, core), core))

    def _count_held(self) -> int:
        return sum(len(each.shards) for each in self._workers)

    def _feed(self, handout: HandOut) -> None:
        """Top up every worker; tell those that will get nothing more to end."""
        placed = sum(each.hand.is_placed for each in self._workers)
        for each in self._workers:
            is_plenty = handout.is_plenty(placed)
            share = AHEAD if is_plenty and each.core.index not in self._short_of_memory else 1
            while each.is_at_work and len(each.shards) < share and not self._is_alone(each):
                # Of two failures on one core nobody knows whether it was the shard.
                core = each.core.index if self._has_other_core(each) else None
                shard = handout.take(each.last, unless_failed_on=core, is_idle=not each.shards)
                if shard is None:
                    break
                each.give(self._docket.assign(shard))
        if not len(handout) and not any(each.shards for each in self._workers):
            for each in self._workers:
                each.tell_to_end()

    def _listen(self, handout: HandOut) -> None:
        """Wait for news, and act on all of it."""
        by_hand = {id(each.hand): each for each in self._workers}
        if not by_hand:
            time.sleep(_PAUSE_S)  # all cores rest before their next start
        for hand in self.crew.wait([each.hand for each in self._workers], _POLL_S) if by_hand else ():
            each, events = by_hand[id(hand)], hand.receive()
            for event in events or ():
                self._act(each, event, handout)
            if events is None:
                self._bury(each, handout)

    def _act(self, each: Member, event: Event, handout: HandOut) -> None:
        match event:
            case WorkerReady():
                each.is_ready = self._has_started = True
            case PartDone(shard=index):
                each.shards = [shard for shard in each.shards if shard.index != index]
                self._roster.note_part(each.core)
                self._docket.close(index)
            case ShardFailed():
                self._take_failed(each, event, handout)
            case WorkerBroken(failure=failure):
                each.failure = failure
        self._tell(event)

    def _tell(self, event: Event) -> None:
        try:
            self.listener(event)
        except BatchNeuronError as error:
            self._error = self._error or error

    def _take_failed(self, each: Member, event: ShardFailed, handout: HandOut) -> None:
        """A shard that could not be done; its worker goes on only where the shard is at fault.

        What may be gone next time is the process or the device, and a fresh worker finds out. The shards
        behind it have failed with it; they lose no attempt, and neither does one that a lost core took along.
        """
        failure = event.failure
        failed = next(shard for shard in each.shards if shard.index == event.shard)
        each.shards.remove(failed)
        if failure.retires_core or each.failure is not None:
            handout.give_back(failed, each.core.index)
        else:
            self._charge(failed, failure, event.place, each.core, handout)
        if failure.retryable and each.failure is None:
            each.failure = failure
            each.hand.kill()

    def _bury(self, dead: Member, handout: HandOut) -> None:
        """A worker is gone: take back its shards and its core."""
        death = dead.hand.bury()
        self._workers.remove(dead)
        self._watchdog.forget(id(dead.hand))
        if dead.is_told_to_end and not dead.shards:
            return
        failure, is_guiltless = dead.find_cause(death), dead.failure is None and death.is_machines
        if dead.is_ready:
            self._tell(WorkerLost(dead.core.index, failure.message))
        if failure.code == "out_of_memory":
            self._short_of_memory.add(dead.core.index)
        # Those that it was not at must not lose an attempt.
        accused = {} if dead.failure is not None or is_guiltless else dead.find_accused()
        for shard in dead.shards:
            if shard.index in accused:
                self._charge(shard, failure, accused[shard.index], dead.core, handout)
            else:
                handout.give_back(shard)
        if is_guiltless or (dead.is_ready and (dead.failure is None or failure.code)):
            self._roster.put_back(dead.core)
        elif not failure.retryable:
            self._stop(rebuild_error(failure, "a worker could not start"))
        else:
            self._judge(dead, failure)

    def _judge(self, dead: Member, failure: Failure) -> None:
        """Try the core again, or give it up; the last one takes the job with it.

        Where no worker ever got so far as to say a word, the next run will not fare better.
        """
        retired = self._roster.put_back_failed(dead.core, failure, was_ready=dead.is_ready)
        if retired is None:
            return
        self._tell(retired)
        if not len(self._roster) and all(each.is_told_to_end for each in self._workers):
            why = "was lost" if failure.retires_core else "could not start" if not dead.is_ready else "failed"
            where = f"no core is left: core {dead.core.index} {why}"
            is_mute = dead.failure is None and not self._has_started
            text = failure.message.partition("\n")[0]
            self._stop(
                BackendError(text, where, _MUTE) if is_mute else rebuild_error(failure, where, _ELSEWHERE)
            )

    def _has_other_core(self, each: Member) -> bool:
        return any(other.core.index != each.core.index and other.hand.is_placed for other in self._workers)

    def _charge(self, shard: Shard, failure: Failure, place: Place, core: Core, handout: HandOut) -> None:
        """Lay a failure at a shard's door: it is done again, in part or without a row, or it ends the job."""
        if not failure.retryable:
            self._stop(rebuild_error(failure, f"shard {shard.index}"))
            return
        verdict = self._docket.charge(shard, failure, place)
        found = tell_found(shard, verdict)
        if found is not None:
            self._tell(found)
        if verdict.hopeless:
            self._stop(explain_end(shard, verdict, failure))
            return
        avoided = None if self._docket.is_on_trial(shard) else core.index
        handout.give_back(shard, avoided, is_alone=self._docket.is_accused(shard))

    def _is_alone(self, each: Member) -> bool:
        """Whether it has a shard that is to be done with no other beside it."""
        return any(self._docket.is_accused(shard) for shard in each.shards)

    def _watch(self) -> None:
        """End workers that make no progress, once they have written where they stand."""
        for each in self._workers:
            beats = each.hand.count_beats()
            if beats is None or each.hang:
                continue
            duty = each.duty
            match self._watchdog.look(id(each.hand), beats, duty):
                case Action.DUMP:
                    each.hand.dump_stacks()
                case Action.KILL:
                    each.hang = f"a worker made no progress for {self._watchdog.limit_s(duty):g} s"
                    each.hand.kill()

    def _stop(self, error: BatchNeuronError) -> None:
        self._error = self._error or error

    def _end_all(self) -> None:
        for each in self._workers:
            each.hand.kill()
        for each in self._workers:
            each.hand.bury()
        self._workers.clear()
