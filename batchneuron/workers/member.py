"""A member of the crew, as its supervisor keeps it: a worker, its core, and what it has in its hands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from batchneuron.backends.backend import Core
from batchneuron.planning.plan import Shard
from batchneuron.workers.case import Assignment
from batchneuron.workers.crew import Death, Hand
from batchneuron.workers.events import Failure
from batchneuron.workers.pulse import NOWHERE, Place
from batchneuron.workers.watchdog import Duty


@dataclass(slots=True)
class Member:
    """One worker, from its start to its burial."""

    hand: Hand
    core: Core
    shards: list[Shard] = field(default_factory=list)
    """Oldest first."""
    last: Shard | None = None
    is_ready: bool = False
    is_told_to_end: bool = False
    failure: Failure | None = None
    """What it reported last; it gets nothing more after that."""
    hang: str = ""
    """Why it was killed, where it made no progress."""

    @property
    def is_at_work(self) -> bool:
        """Whether it takes shards."""
        return self.is_ready and not self.is_told_to_end and self.failure is None and not self.hang

    @property
    def duty(self) -> Duty:
        """How much patience it deserves."""
        if not self.is_ready:
            return Duty.STARTING if self.hand.is_placed else Duty.IDLE
        if not self.shards:
            return Duty.COMPUTING if self.is_told_to_end else Duty.IDLE
        stages = {place.stage for place in self.hand.find_places()}
        return Duty.STORING if stages and stages <= {"read", "finish"} else Duty.COMPUTING

    def give(self, given: Assignment) -> None:
        """Put a shard into its hands."""
        self.shards.append(given.shard)
        self.last = given.shard
        self.hand.send(given)

    def tell_to_end(self) -> None:
        """Once; a worker that is still loading has nothing to lose and is not waited for."""
        if self.is_told_to_end:
            return
        self.is_told_to_end = True
        if self.is_ready:
            self.hand.send(None)
        else:
            self.hand.kill()

    def find_accused(self) -> dict[int, Place]:
        """The shards that it may have died of, and where in them it was, if that is known.

        It is known where one thread alone was at work. Where none was, the oldest shard has to do.
        """
        held = {shard.index for shard in self.shards}
        places = [place for place in self.hand.find_places() if place.shard in held]
        if len(places) == 1:
            return {places[0].shard: places[0]}
        indexes = [place.shard for place in places] or [shard.index for shard in self.shards[:1]]
        return dict.fromkeys(indexes, NOWHERE)

    def find_cause(self, death: Death) -> Failure:
        """What it reported, or why it was killed, or how it died."""
        if self.failure is not None:
            return self.failure
        return replace(death.failure, message=self.hang, code="worker_hang") if self.hang else death.failure
