"""Roster: which cores get a worker, when, and which get none any more.

Knows cores, failures and pauses; knows nothing of processes. A core may be taken by another process for a
while, so a start that failed is tried again after a pause; a broken one is given up, and the others go on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from batchneuron.backends.backend import Core
from batchneuron.workers.events import CoreRetired, Failure

PAUSES_S = (1.0, 5.0)
"""Before the second and the third start of a worker on a core that could not start one."""
MAX_FAILURES = len(PAUSES_S) + 1
"""In a row, without a part between them: then a core is given up."""


class Roster:
    """The cores without a worker, in the order in which they are to get one."""

    def __init__(self, cores: Sequence[Core], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting = [(clock(), core) for core in cores]
        self._failures: Counter[int] = Counter()
        self._retired: set[int] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Core | None:
        """The next core that is due; None: there is none, or none yet."""
        if not self._waiting or self._waiting[0][0] > self._clock():
            return None
        return self._waiting.pop(0)[1]

    def note_part(self, core: Core) -> None:
        """The core has done a shard: whatever failed before, it works."""
        self._failures[core.index] = 0

    def put_back(self, core: Core) -> None:
        """Take back the core of a worker that died at work, from no fault of the core that is known."""
        self._insert(core, 0.0)

    def put_back_failed(self, core: Core, failure: Failure, *, was_ready: bool) -> CoreRetired | None:
        """Take back the core of a worker that reported a failure, or could not start; told if given up."""
        if core.index in self._retired:
            return None
        self._failures[core.index] += 1
        failures = self._failures[core.index]
        if failure.retires_core or failures >= MAX_FAILURES:
            self._retired.add(core.index)
            self._waiting = [item for item in self._waiting if item[1].index != core.index]
            return CoreRetired(core.index, failure.message)
        self._insert(core, 0.0 if was_ready else PAUSES_S[failures - 1])
        return None

    def _insert(self, core: Core, pause_s: float) -> None:
        if core.index not in self._retired:
            self._waiting.append((self._clock() + pause_s, core))
            self._waiting.sort(key=lambda item: item[0])
