"""The watchdog: which workers have come to a stand.

Told now and then how often each worker's pulse has beaten. Knows no processes and no signals.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum

SHORTEST_S = 300.0
"""A batch of a large model takes minutes on a slow CPU; no limit that was not asked for is below it."""
_TIMES_LONGEST = 20
_PATIENT_S = 3600.0  # loading may compile; a store has its own patience, ten minutes a request
_DUMP_S = 1.0  # to write a few stacks
_ASLEEP_S = 30.0  # whoever looks this seldom was stopped itself, or held up: nobody has beaten unseen


class Duty(Enum):
    """What a worker is doing, as far as patience goes."""

    IDLE = "idle"
    STARTING = "starting"
    STORING = "storing"
    """Reading or writing, and nothing else."""
    COMPUTING = "computing"


class Action(Enum):
    """What to do with a worker."""

    LEAVE = "leave"
    DUMP = "dump"
    """Ask it where its threads stand."""
    KILL = "kill"


@dataclass(slots=True)
class _Seen:
    beats: int
    duty: Duty
    since_s: float
    looked_s: float
    dumped_s: float | None = None


class Watchdog:
    """Remembers when each worker's pulse last changed, and the longest pause that ended well."""

    def __init__(self, hang_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._hang_s = hang_s
        self._clock = clock
        self._seen: dict[Hashable, _Seen] = {}
        self._longest_s = 0.0

    def limit_s(self, duty: Duty) -> float:
        """How long a pulse may stand still."""
        if duty is Duty.IDLE:
            return float("inf")
        if self._hang_s is not None and duty is not Duty.STARTING:
            return self._hang_s
        learnt = max(SHORTEST_S, _TIMES_LONGEST * self._longest_s)
        return learnt if duty is Duty.COMPUTING else max(_PATIENT_S, learnt)

    def look(self, worker: Hashable, beats: int, duty: Duty) -> Action:
        """What to do with a worker that has this pulse now."""
        now = self._clock()
        seen = self._seen.get(worker)
        if seen is None or (seen.beats, seen.duty) != (beats, duty):
            if seen is not None and seen.duty is Duty.COMPUTING:
                self._longest_s = max(self._longest_s, now - seen.since_s)
            self._seen[worker] = _Seen(beats, duty, now, now)
            return Action.LEAVE
        if now - seen.looked_s > _ASLEEP_S:
            seen.since_s, seen.dumped_s = now, None
        seen.looked_s = now
        if seen.dumped_s is not None:
            return Action.KILL if now - seen.dumped_s >= _DUMP_S else Action.LEAVE
        if now - seen.since_s <= self.limit_s(duty):
            return Action.LEAVE
        seen.dumped_s = now
        return Action.DUMP

    def forget(self, worker: Hashable) -> None:
        """The worker is gone."""
        self._seen.pop(worker, None)
