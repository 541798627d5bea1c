"""Agenda: what happens when, in the order of simulated time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Agenda:
    """Calls that wait for their time; of those for one moment the first that was noted comes first."""

    now_s: float = 0.0
    _calls: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def at(self, time_s: float, call: Callable[[], None]) -> None:
        """Note a call; one for a moment that is over is made next."""
        heapq.heappush(self._calls, (max(time_s, self.now_s), next(self._numbers), call))

    def run(self, until_s: float = float("inf")) -> None:
        """Make all calls, and those that they note, up to a moment."""
        while self._calls and self._calls[0][0] <= until_s:
            self.now_s, _, call = heapq.heappop(self._calls)
            call()
