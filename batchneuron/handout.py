"""Which shard a worker gets next.

On demand, so that a slow core takes fewer. A worker goes on where it was, because its reader stands
there: a large row group or a gzip stream is then decoded once. When its way is taken it starts in the
middle of the longest stretch that is left, at the start of a block if there is one near.
"""

from __future__ import annotations

from collections.abc import Sequence

from batchneuron.plan import Shard


class HandOut:
    """The shards that nobody has yet."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._order = tuple(shards)
        self._place = {shard.index: place for place, shard in enumerate(self._order)}
        self._stretches = [(0, len(self._order))] if self._order else []
        self._returned: list[Shard] = []

    def __len__(self) -> int:
        return len(self._returned) + sum(hi - lo for lo, hi in self._stretches)

    def take(self, last: Shard | None) -> Shard | None:
        """The next shard for a worker that had `last` before; None when all are taken."""
        if self._returned:
            return self._returned.pop(0)
        if not self._stretches:
            return None
        after = self._place[last.index] + 1 if last is not None else None
        number = next((i for i, (lo, _) in enumerate(self._stretches) if lo == after), None)
        if number is not None:
            return self._cut(number, self._stretches[number][0])
        number = max(range(len(self._stretches)), key=lambda i: self._stretches[i][1] - self._stretches[i][0])
        return self._cut(number, self._find_start(*self._stretches[number]))

    def give_back(self, shard: Shard) -> None:
        """Hand it out again, before all others."""
        self._returned.append(shard)

    def clear(self) -> None:
        """Hand out nothing more."""
        self._stretches.clear()
        self._returned.clear()

    def _find_start(self, lo: int, hi: int) -> int:
        """The start of the whole, or for a stretch with a neighbour at work, about its middle."""
        if lo == 0:
            return 0
        middle = (lo + hi) // 2
        starts = [place for place in range(lo, hi) if self._starts_block(place)]
        return min(starts, key=lambda place: abs(place - middle), default=middle)

    def _starts_block(self, place: int) -> bool:
        slices = self._order[place].slices
        return not slices or slices[0].row_lo == slices[0].block_row

    def _cut(self, number: int, place: int) -> Shard:
        lo, hi = self._stretches.pop(number)
        parts = [(lo, place), (place + 1, hi)]
        self._stretches[number:number] = [(first, end) for first, end in parts if first < end]
        return self._order[place]
