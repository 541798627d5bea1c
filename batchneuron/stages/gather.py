"""Gather: the items of a whole shard to batches of static shapes.

Pure. An item goes to the shortest shape that holds it. What is left over when its batches are full makes
a partial batch. Where such batches are filled with copies, and an item has the same bits in every shape, it
may travel in a longer one instead, if that takes fewer slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchneuron.planning.shapes import Ladder, Shape


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that go through the device together."""

    index: int
    """Of the shape, in the ladder."""
    picks: NDArray[np.intp]
    """Which items; at most as many as the shape has rows, and at least one unless they were taken out."""
    rows: int
    """How many there were before any was taken out."""
    places: NDArray[np.intp] | None = None
    """The slot of each of them; None: the first ones, in order."""

    @property
    def slots(self) -> NDArray[np.intp]:
        """The slot of each item: [n]."""
        return np.arange(len(self.picks)) if self.places is None else self.places

    def fill(self, size: int) -> NDArray[np.intp]:
        """The item of each slot: [size]. Slots without one of their own get copies of the first."""
        filled = np.full(size, self.picks[0])
        filled[self.slots] = self.picks
        return filled

    def cut(self, output: NDArray[Any]) -> NDArray[Any]:
        """What the device gave for the items: [n, …] of [B, …]."""
        cut: NDArray[Any] = output[: len(self.picks)] if self.places is None else output[self.places]
        return cut


def gather(lengths: NDArray[np.int32], ladder: Ladder, *, spills: bool) -> list[Batch]:
    """All items in batches, longest shape first: memory peaks at the start and not at hour five.

    Args:
        lengths: tokens of N items, none beyond the longest shape.
        ladder: the shapes, shortest first.
        spills: whether an item may travel in a longer shape than it needs.
    """
    chosen = ladder.choose(lengths)
    members = [np.flatnonzero(chosen == index) for index in range(len(ladder.shapes))]
    counts = [len(places) for places in members]
    runs = _choose_runs(counts, ladder.shapes) if spills else _fill_each(counts, ladder.shapes)
    batches: list[Batch] = []
    waiting = np.zeros(0, dtype=np.intp)
    for index, (places, run) in enumerate(zip(members, runs, strict=True)):
        size = ladder.shapes[index].batch_size
        waiting = np.concatenate([waiting, places])
        now, waiting = waiting[: run * size], waiting[run * size :]
        starts = reversed(range(0, len(now), size))
        pieces = [now[start : start + size] for start in starts]
        batches += [Batch(index, piece, len(piece)) for piece in pieces]
    return batches[::-1]


def _fill_each(counts: Sequence[int], shapes: Sequence[Shape]) -> list[int]:
    """Batches of each shape that hold its own items."""
    return [-(-count // shape.batch_size) for count, shape in zip(counts, shapes, strict=True)]


def _choose_runs(counts: Sequence[int], shapes: Sequence[Shape]) -> list[int]:
    """Batches of each shape that hold all items in the fewest slots, left-overs moving up the ladder.

    At each shape what is left over either makes a partial batch or moves on, so that after it only a few
    numbers of waiting items are possible; the cheapest way to each of them is kept.
    """
    ways: dict[int, tuple[int, list[int]]] = {0: (0, [])}
    for place, (count, shape) in enumerate(zip(counts, shapes, strict=True)):
        reached: dict[int, tuple[int, list[int]]] = {}
        for waiting, (slots, runs) in ways.items():
            full, rest = divmod(waiting + count, shape.batch_size)
            options = [(full, rest)] if rest == 0 or place < len(shapes) - 1 else []
            if rest:
                options.append((full + 1, 0))
            for run, left in options:
                way = (slots + run * shape.slots, [*runs, run])
                if left not in reached or way < reached[left]:
                    reached[left] = way
        ways = reached
    return ways[0][1]
