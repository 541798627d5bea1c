"""Places that are left of a row of places: few long stretches, so that 10^5 of them cost nothing to cut."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Stretches:
    """A set of whole numbers as disjoint stretches `[lo, hi)`, in order."""

    def __init__(self, stretches: Iterable[tuple[int, int]] = ()) -> None:
        """From stretches that are in order and do not touch; empty ones are left out."""
        found = [(lo, hi) for lo, hi in stretches if lo < hi]
        self._los = [lo for lo, _ in found]
        self._his = [hi for _, hi in found]
        self._count = sum(hi - lo for lo, hi in found)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._los, self._his, strict=True)

    def __contains__(self, place: int) -> bool:
        at = bisect_right(self._los, place) - 1
        return at >= 0 and place < self._his[at]

    def discard(self, place: int) -> None:
        """Cut a place out, if it is there."""
        if place not in self:
            return
        at = bisect_right(self._los, place) - 1
        lo, hi = self._los[at], self._his[at]
        pieces = [piece for piece in ((lo, place), (place + 1, hi)) if piece[0] < piece[1]]
        self._los[at : at + 1] = [lo for lo, _ in pieces]
        self._his[at : at + 1] = [hi for _, hi in pieces]
        self._count -= 1

    def without(self, places: Iterable[int]) -> Stretches:
        """All but some places, which are in ascending order."""
        return Stretches(_subtract(self, places))

    def within(self, lo: int, hi: int) -> Stretches:
        """Those from `lo` to before `hi`."""
        first = bisect_right(self._his, lo)
        last = bisect_left(self._los, hi, first)
        pairs = zip(self._los[first:last], self._his[first:last], strict=True)
        return Stretches((max(lo, start), min(hi, end)) for start, end in pairs)

    def find_around(self, place: int) -> tuple[int, int]:
        """The stretch that holds a place, which must be there."""
        at = bisect_right(self._los, place) - 1
        return self._los[at], self._his[at]

    def find_longest(self) -> tuple[int, int]:
        """The longest stretch, the first of equals; there must be one."""
        return max(self, key=lambda stretch: stretch[1] - stretch[0])

    def find_nth(self, number: int) -> int:
        """The place that so many others stand before, 0 for the first; there must be one."""
        for lo, hi in self:
            if number < hi - lo:
                return lo + number
            number -= hi - lo
        raise IndexError(number)


def _subtract(stretches: Iterable[tuple[int, int]], places: Iterable[int]) -> Iterator[tuple[int, int]]:
    left = iter(places)
    place = next(left, None)
    for lo, hi in stretches:
        while place is not None and place < hi:
            if place >= lo:
                yield lo, place
                lo = place + 1
            place = next(left, None)
        yield lo, hi
