"""Static shapes: which (batch_size, sequence_length) pairs a job compiles, and what they waste.

Pure: token lengths in, a ladder out. A row's shape depends on its own length alone, so the same row
meets the same shape in every run of the same plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_SHAPES = 8
MAX_BATCH_ROWS = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """One static (batch_size, sequence_length) pair."""

    batch_size: int
    sequence_length: int

    @property
    def slots(self) -> int:
        """Token places of one batch, filled or not."""
        return self.batch_size * self.sequence_length

    def __str__(self) -> str:
        return f"{self.batch_size}x{self.sequence_length}"


@dataclass(frozen=True, slots=True)
class Ladder:
    """The shapes of a job, shortest first."""

    shapes: tuple[Shape, ...]

    @property
    def max_length(self) -> int:
        """Tokens that fit the longest shape."""
        return self.shapes[-1].sequence_length

    def choose(self, lengths: NDArray[np.int32]) -> NDArray[np.intp]:
        """Index of the shortest shape that holds each length: intp [N].

        Raises:
            ValueError: a length is beyond the longest shape; encoding must have cut it.
        """
        edges = np.array([shape.sequence_length for shape in self.shapes])
        chosen = np.searchsorted(edges, lengths, side="left")
        if chosen.size and chosen.max() == len(edges):
            raise ValueError(f"{int(lengths.max())} tokens do not fit the longest shape, {edges[-1]}")
        return chosen

    def padding_share(self, lengths: NDArray[np.int32]) -> float:
        """Share of slots that hold padding when rows of these lengths fill whole batches, 0 to 1."""
        if not lengths.size:
            return 0.0
        edges = np.array([shape.sequence_length for shape in self.shapes])
        clipped = np.minimum(lengths, self.max_length)
        return 1.0 - float(clipped.sum()) / float(edges[self.choose(clipped)].sum())


@dataclass(frozen=True, slots=True)
class LadderRequest:
    """What the spec, the model and the backend say about shapes."""

    limit_tokens: int
    """The model's own limit, or `shapes.max_length`."""
    sequence_lengths: tuple[int, ...] | None = None
    """The ladder, when the user gave one."""
    batch_size: int | None = None
    """Rows of every batch; None: as many as fill `batch_slots`."""
    batch_slots: int = 2048
    """Slots of a batch that the backend runs best."""


def plan_ladder(lengths: NDArray[np.int32], request: LadderRequest) -> Ladder:
    """The ladder that wastes least on a sample of token lengths.

    The longest shape is always the limit itself: the sample may have missed the longest row, and a
    row must never be cut because of a sample.

    Args:
        lengths: tokens of sampled items, int32 [N]; may be empty.
        request: the user's and the machine's wishes.
    """
    if request.sequence_lengths is not None:
        edges = sorted(set(request.sequence_lengths))
    else:
        edges = _choose_edges(np.minimum(lengths, request.limit_tokens), request.limit_tokens)
    return Ladder(tuple(Shape(_batch_rows(edge, request), edge) for edge in edges))


def _batch_rows(edge: int, request: LadderRequest) -> int:
    if request.batch_size is not None:
        return request.batch_size
    return max(1, min(MAX_BATCH_ROWS, request.batch_slots // edge))


def _choose_edges(lengths: NDArray[np.int32], limit: int) -> list[int]:
    """At most MAX_SHAPES lengths, the last one `limit`, with the fewest slots over the sample."""
    if not lengths.size:
        return [limit]
    candidates = _candidate_edges(lengths, limit)
    # rows[j]: sampled rows no longer than candidate j. One more shape costs slots[i, j] = the rows
    # between two neighbouring edges, each padded to the upper one.
    rows = np.searchsorted(np.sort(lengths), candidates, side="right")
    best = rows * candidates
    came_from: list[NDArray[np.intp]] = []
    for _ in range(min(MAX_SHAPES, len(candidates)) - 1):
        cost = best[:, None] + (rows[None, :] - rows[:, None]) * candidates[None, :]
        cost[np.tril_indices(len(candidates))] = np.iinfo(cost.dtype).max
        previous = cost.argmin(axis=0)
        extended = cost[previous, np.arange(len(candidates))]
        came_from.append(np.where(extended < best, previous, -1))
        best = np.minimum(best, extended)
    return [int(candidates[j]) for j in _trace_back(came_from, len(candidates) - 1)]


def _candidate_edges(lengths: NDArray[np.int32], limit: int) -> NDArray[np.int64]:
    """Lengths worth a shape: a fine grid for short texts, multiples of 8 beyond, and the limit."""
    step = 2 if np.percentile(lengths, 95) <= 64 else 8
    top = min(limit, max(int(lengths.max()), 1) + step)
    grid = np.arange(step, top, step, dtype=np.int64)
    return np.append(grid[grid >= int(lengths.min())], limit)


def _trace_back(came_from: Sequence[NDArray[np.intp]], last: int) -> list[int]:
    chain = [last]
    for step in reversed(came_from):
        if step[chain[0]] >= 0:
            chain.insert(0, int(step[chain[0]]))
    return chain
