"""Which shard a worker gets next.

On demand, so that a slow core takes fewer. A worker goes on where it was, because its reader stands
there: a large row group or a gzip stream is then decoded once. When its way is taken it starts in the
middle of the longest stretch that is left, at the start of a block if there is one near. A runner that has
a stretch of its own begins there. What other runners have in hand comes last.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from batchneuron.planning.plan import Shard
from batchneuron.workers.events import OthersSeen
from batchneuron.workers.stretches import Stretches


class Claims(Protocol):
    """What other runners of the same run do, and what they are told of this one."""

    @property
    def own(self) -> range:
        """Shards that this runner does before all others; empty: it has none of its own."""

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

    own: range = range(0)
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


@dataclass(frozen=True, slots=True)
class _Returned:
    """A shard that was given back."""

    shard: Shard
    failed_on: int | None
    is_alone: bool


class HandOut:
    """The shards that nobody has yet."""

    def __init__(self, shards: Sequence[Shard], claims: Claims | None = None) -> None:
        self._order = tuple(shards)
        self._place = _place_shards(self._order)
        self._starts = array("l", (place for place in range(len(self._order)) if self._starts_block(place)))
        self._left = Stretches([(0, len(self._order))])
        self._held: frozenset[int] = frozenset()
        self._free = self._left
        """What is left and held by nobody else, as far as is known."""
        self._returned: list[_Returned] = []
        self._claims = claims or Alone()
        self._own = _find_places(self._order, self._claims.own)
        self._forgotten: frozenset[int] = frozenset()
        self._told = OthersSeen()
        self._rows_elsewhere = 0
        self._is_waiting = False

    def __len__(self) -> int:
        self._forget_done()
        return len(self._returned) + len(self._left)

    def is_plenty(self, workers: int) -> bool:
        """Whether more shards are free than there are workers, here and, as many each, with the others.

        Then a worker may have shards waiting in its hands; else one that idles would be kept from them.
        """
        self._forget_done()
        self._forget_held()
        return len(self._returned) + len(self._free) > workers * (1 + self._claims.others)

    def take(
        self, last: Shard | None, unless_failed_on: int | None = None, *, is_idle: bool = True
    ) -> Shard | None:
        """The next shard for a worker that had `last` before, and none that failed on its core.

        None when all are taken; also, with some left, while others are at them or are to have them, and
        until the worker is idle where the next must be done alone.
        """
        self._forget_done()
        returned = self._find_returned(unless_failed_on)
        if returned is not None and returned.is_alone and not is_idle:
            return None
        if returned is not None:
            self._returned.remove(returned)
        shard = returned.shard if returned is not None else self._pick(last)
        self._is_waiting = shard is None and len(self._left) > 0
        if shard is not None:
            self._claims.take(shard.index)
        return shard

    def give_back(self, shard: Shard, failed_on: int | None = None, *, is_alone: bool = False) -> None:
        """Hand it out again, before all others.

        Args:
            shard: which.
            failed_on: a core that shall not have it, if there is another.
            is_alone: whether it goes to a worker that has nothing else in its hands.
        """
        self._returned.append(_Returned(shard, failed_on, is_alone))
        self._claims.give_back(shard.index)

    def clear(self) -> None:
        """Hand out nothing more."""
        self._left = self._free = Stretches()
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
        places = self._find_left(done - self._forgotten)
        self._forgotten = done
        self._rows_elsewhere += sum(self._order[at].rows for at in places)
        self._left = self._left.without(places)
        self._free = self._free.without(places)
        self._returned = [item for item in self._returned if item.shard.index not in done]

    def _forget_held(self) -> None:
        """Leave out what others have in hand by now, and take in what they have no more."""
        held = self._claims.held
        if held is not self._held:
            self._held = held
            self._free = self._left.without(self._find_left(held))

    def _find_left(self, indices: frozenset[int]) -> list[int]:
        """The places of some shards that are left."""
        places = (self._place[index] for index in indices if index < len(self._place))
        return sorted(place for place in places if place in self._left)

    def _find_returned(self, core: int | None) -> _Returned | None:
        """The first that a core may have."""
        return next((item for item in self._returned if core is None or item.failed_on != core), None)

    def _pick(self, last: Shard | None) -> Shard | None:
        self._forget_held()
        if not len(self._free):
            return self._take_over()
        own = self._free.within(*self._own)
        after = self._place[last.index] + 1 if last is not None else -1
        if after in (own if len(own) else self._free):
            return self._cut(after)
        if len(own) or not self._claims.others:
            return self._cut(self._find_start(*(own if len(own) else self._free).find_longest()))
        return self._cut(self._find_meeting())

    def _take_over(self) -> Shard | None:
        """One that others have in hand, any, so that several who lost patience do not all do the same."""
        if not len(self._left) or not self._claims.is_patience_over():
            return None
        return self._cut(self._left.find_nth(random.randrange(len(self._left))))

    def _find_start(self, lo: int, hi: int) -> int:
        """The start of the whole, or for a stretch with a neighbour at work, about its middle."""
        return lo if lo == self._own[0] else self._find_block(lo, hi, (lo + hi) // 2)

    def _find_meeting(self) -> int:
        """Where others are at work too: anywhere, as none knows yet what the others take next.

        In the back half of a stretch, as whoever is before it comes from the front.
        """
        lo, hi = self._free.find_around(self._free.find_nth(random.randrange(len(self._free))))
        return self._find_block(lo, hi, random.randrange((lo + hi) // 2, hi))

    def _find_block(self, lo: int, hi: int, wished: int) -> int:
        """The place in a stretch nearest to the one wished for at which a block starts, or that one."""
        at = bisect_left(self._starts, wished)
        starts = [place for place in self._starts[max(0, at - 1) : at + 1] if lo <= place < hi]
        return min(starts, key=lambda place: abs(place - wished), default=wished)

    def _starts_block(self, place: int) -> bool:
        slices = self._order[place].slices
        return not slices or slices[0].row_lo == slices[0].block_row

    def _cut(self, place: int) -> Shard:
        self._left.discard(place)
        self._free.discard(place)
        return self._order[place]


def _place_shards(order: Sequence[Shard]) -> array[int]:
    """The place of each shard, by its index; -1: it is not there. 10^5 of them in a dict take 9 MB."""
    places = array("l", [-1]) * (1 + max((shard.index for shard in order), default=-1))
    for place, shard in enumerate(order):
        places[shard.index] = place
    return places


def _find_places(order: Sequence[Shard], own: range) -> tuple[int, int]:
    """The stretch of places that reaches from the first to the last of some shards."""
    places = [place for place, shard in enumerate(order) if shard.index in own]
    return (places[0], places[-1] + 1) if places else (0, 0)
