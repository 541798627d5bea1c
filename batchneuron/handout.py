"""Which shard a worker gets next.

On demand, so that a slow core takes fewer. A worker goes on where it was, because its reader stands
there: a large row group or a gzip stream is then decoded once. When its way is taken it starts in the
middle of the longest stretch that is left, at the start of a block if there is one near. What other
runners have in hand comes last.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from batchneuron.events import OthersSeen
from batchneuron.plan import Shard


class Claims(Protocol):
    """What other runners of the same run do, and what they are told of this one."""

    @property
    def done(self) -> frozenset[int]:
        """Shards whose part is there."""

    @property
    def held(self) -> frozenset[int]:
        """Shards that others have in hand."""

    @property
    def others(self) -> int:
        """How many there are."""

    def take(self, index: int) -> None:
        """Say that this runner has a shard in hand."""

    def give_back(self, index: int) -> None:
        """Say that it has it no more."""

    def is_patience_over(self) -> bool:
        """Whether to do what others hold, now that nothing else is left."""


@dataclass(frozen=True, slots=True)
class Alone:
    """There is no other runner."""

    done: frozenset[int] = frozenset()
    held: frozenset[int] = frozenset()
    others: int = 0

    def take(self, index: int) -> None:
        """Nobody is told."""

    def give_back(self, index: int) -> None:
        """Nobody is told."""

    def is_patience_over(self) -> bool:
        """There is nothing to wait for."""
        return True


class HandOut:
    """The shards that nobody has yet."""

    def __init__(self, shards: Sequence[Shard], claims: Claims | None = None) -> None:
        self._order = tuple(shards)
        self._place = {shard.index: place for place, shard in enumerate(self._order)}
        self._stretches = [(0, len(self._order))] if self._order else []
        self._returned: list[tuple[Shard, int | None]] = []
        self._claims = claims or Alone()
        self._forgotten: frozenset[int] = frozenset()
        self._told = OthersSeen()
        self._rows_elsewhere = 0
        self._is_waiting = False

    def __len__(self) -> int:
        self._forget_done()
        return len(self._returned) + sum(hi - lo for lo, hi in self._stretches)

    def take(self, last: Shard | None, unless_failed_on: int | None = None) -> Shard | None:
        """The next shard for a worker that had `last` before, and none that failed on its core.

        None when all are taken; also, with some left, while others are at them or are to have them.
        """
        self._forget_done()
        shard = self._take_returned(unless_failed_on) or self._pick(last)
        self._is_waiting = shard is None and bool(self._stretches)
        if shard is not None:
            self._claims.take(shard.index)
        return shard

    def give_back(self, shard: Shard, failed_on: int | None = None) -> None:
        """Hand it out again, before all others; a core on which it failed is remembered."""
        self._returned.append((shard, failed_on))
        self._claims.give_back(shard.index)

    def clear(self) -> None:
        """Hand out nothing more."""
        self._stretches.clear()
        self._returned.clear()

    def news(self) -> OthersSeen | None:
        """What others have done and are waited for; None: nothing new since it was asked."""
        now = OthersSeen(self._rows_elsewhere, len(self) if self._is_waiting else 0)
        if now == self._told:
            return None
        self._told = now
        return now

    def _forget_done(self) -> None:
        """Strike out what others have done meanwhile."""
        done = self._claims.done
        if done is self._forgotten:
            return
        places = {self._place[index] for index in done - self._forgotten if index in self._place}
        self._forgotten = done
        left = _subtract(self._stretches, sorted(places))
        for lo, hi in self._stretches:
            self._rows_elsewhere += sum(self._order[at].rows for at in places if lo <= at < hi)
        self._stretches = left
        self._returned = [item for item in self._returned if item[0].index not in done]

    def _take_returned(self, core: int | None) -> Shard | None:
        for place, (_, failed_on) in enumerate(self._returned):
            if core is None or failed_on != core:
                return self._returned.pop(place)[0]
        return None

    def _pick(self, last: Shard | None) -> Shard | None:
        held = sorted(self._place[index] for index in self._claims.held if index in self._place)
        free = _subtract(self._stretches, held)
        if not free:
            return self._take_over()
        after = self._place[last.index] + 1 if last is not None else None
        if any(lo == after for lo, _ in free):
            return self._cut(after or 0)
        return self._cut(self._find_start(*max(free, key=lambda stretch: stretch[1] - stretch[0])))

    def _take_over(self) -> Shard | None:
        """One that others have in hand, any, so that several who lost patience do not all do the same."""
        if not self._stretches or not self._claims.is_patience_over():
            return None
        return self._cut(random.choice([at for lo, hi in self._stretches for at in range(lo, hi)]))

    def _find_start(self, lo: int, hi: int) -> int:
        """The start of the whole, or for a stretch with a neighbour at work, about its middle.

        Runners that begin together begin anywhere: none knows yet what the others take first.
        """
        if lo == 0 and not self._claims.others:
            return 0
        wished = random.randrange(lo, hi) if self._claims.others else (lo + hi) // 2
        starts = [place for place in range(lo, hi) if self._starts_block(place)]
        return min(starts, key=lambda place: abs(place - wished), default=wished)

    def _starts_block(self, place: int) -> bool:
        slices = self._order[place].slices
        return not slices or slices[0].row_lo == slices[0].block_row

    def _cut(self, place: int) -> Shard:
        self._stretches = _subtract(self._stretches, [place])
        return self._order[place]


def _subtract(stretches: Sequence[tuple[int, int]], places: Sequence[int]) -> list[tuple[int, int]]:
    """The stretches without some places, which are in order."""
    left = []
    for lo, hi in stretches:
        for place in places[bisect_right(places, lo - 1) :]:
            if place >= hi:
                break
            if lo < place:
                left.append((lo, place))
            lo = place + 1
        if lo < hi:
            left.append((lo, hi))
    return left
