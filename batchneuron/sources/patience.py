"""Patience with the place where an input lies: what gave no answer is asked again.

Reading changes nothing, so that it can be begun anew at any time. Arrow's own attempts are over within
seconds, while a bucket that slows its readers down, or an NFS server that restarts, is back within minutes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from batchneuron.errors import SourceUnavailable

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to ask again, by which clock, and how to rest in between."""

    most_s: float = 600.0
    """From the first failure on: as long as a part is offered to a bucket, and within the watchdog's hour."""
    clock: Callable[[], float] = time.monotonic
    rest: Callable[[float], None] = time.sleep

    def ask(self, call: Callable[[], _T]) -> _T:
        """What the call returns; it is made again while nothing answers.

        The pauses have full jitter, so that a hundred workers do not come back together.

        Raises:
            SourceUnavailable: nothing has answered in all that time.
        """
        failed_at, tries = None, 0
        while True:
            try:
                return call()
            except SourceUnavailable as error:
                failed_at = self.clock() if failed_at is None else failed_at
                if self.clock() - failed_at >= self.most_s:
                    what = f"{error.what} (asked again for {self.most_s:.0f} s)"
                    raise SourceUnavailable(what, error.where, error.hint) from error
            self.rest(random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(tries, 16))))
            tries += 1
