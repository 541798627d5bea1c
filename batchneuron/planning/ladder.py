"""The planner: a sample of token lengths to the shapes that run the whole job in the least time.

Pure. Both lengths and batch sizes are chosen. A larger batch spreads a call's own time over more rows,
but where a batch must be full, each shape's last one of a shard is filled with copies, and the more the
larger it is: a shape that few rows of a shard meet gets a small one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from batchneuron.planning.cost import ShapeCost
from batchneuron.planning.shapes import Ladder, Shape

MAX_SHAPES = 8
MAX_BATCH_ROWS = 64
_NEVER_S = 1e9  # more than any job takes
_ROUNDING_ROWS = 1e-6
_SPLIT_BY = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625, 0.03125, 0.015625)
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Token lengths of some items of a job, and how many there are in all."""

    lengths: NDArray[np.int32]
    """[N], none beyond the limit; may be empty"""
    items_per_shard: float
    shards: int = 1

    @property
    def is_all(self) -> bool:
        """Whether there is no item that was not sampled."""
        return len(self.lengths) >= self.items_per_shard * self.shards


@dataclass(frozen=True, slots=True)
class LadderRequest:
    """What the spec, the model and the backend say about shapes."""

    limit_tokens: int
    """The model's own limit, or `shapes.max_length`."""
    sequence_lengths: tuple[int, ...] | None = None
    """The ladder, when the user gave one."""
    batch_size: int | None = None
    """Rows of every batch; None: planned."""
    batch_slots: int = 2048
    """Slots that no batch of more than one row exceeds: what the backend runs best."""
    max_shapes: int = MAX_SHAPES
    cost: ShapeCost = field(default_factory=ShapeCost)
    ready: frozenset[Shape] = frozenset()
    """Compiled already, by an earlier job: these cost nothing but their slots."""
    compiles: bool = True
    """False: nothing can be compiled here, so that a shape which is not ready is taken only if it must be."""

    def compile_s(self, shape: Shape) -> float:
        """What the shape costs before its first batch."""
        if shape in self.ready:
            return 0.0
        return self.cost.compile_s if self.compiles else _NEVER_S


def plan_ladder(sample: Sample, request: LadderRequest) -> Ladder:
    """The ladder of at most `max_shapes` shapes that is predicted to take the least time.

    The longest shape is always the limit itself: the sample may have missed the longest row, and a
    row must never be cut because of a sample.
    """
    if request.sequence_lengths is not None:
        return _fit_batches(sorted(set(request.sequence_lengths)), sample, request)
    chains = _search(sample, request, request.max_shapes)
    return _fit_batches(min(chains, key=lambda chain: chain.cost).edges, sample, request)


def plan_one_more(ladder: Ladder, sample: Sample, request: LadderRequest) -> Ladder | None:
    """The best ladder with one shape more; None where there is none, or the user chose."""
    if request.sequence_lengths is not None:
        return None
    chains = _search(sample, request, len(ladder.shapes) + 1)
    if len(chains) <= len(ladder.shapes):
        return None
    return _fit_batches(chains[-1].edges, sample, request)


def list_candidates(request: LadderRequest) -> tuple[Shape, ...]:
    """All shapes that a ladder can have, whatever the sample is."""
    grid, limit = _make_grid(request.limit_tokens), request.limit_tokens
    edges = request.sequence_lengths or (*grid[grid < limit].tolist(), limit)
    return tuple(shape for edge in edges for shape in _list_shapes(edge, request))


def predict_slots(ladder: Ladder, sample: Sample, request: LadderRequest) -> float:
    """Slots that a shard is expected to need, fillers included."""
    rows = np.diff(_rows_up_to(sample, ladder.edges), prepend=0.0)
    if request.cost.partial_s is not None:
        return float(rows @ ladder.edges)
    counts = [
        _count_batches(rows[i : i + 1], shape.batch_size, sample)[0] for i, shape in enumerate(ladder.shapes)
    ]
    return float(np.array(counts) @ np.array([shape.slots for shape in ladder.shapes]))


def predict_s(ladder: Ladder, sample: Sample, request: LadderRequest) -> float:
    """Seconds that a shard is expected to take on one core."""
    rows = np.diff(_rows_up_to(sample, ladder.edges), prepend=0.0)
    prices = [_price(rows[i : i + 1], shape, sample, request)[0] for i, shape in enumerate(ladder.shapes)]
    return float(sum(prices))


def predict_tokens(sample: Sample) -> float:
    """Tokens of a shard."""
    return sample.items_per_shard * float(sample.lengths.mean()) if sample.lengths.size else 0.0


@dataclass(frozen=True, slots=True)
class Chain:
    """Lengths of a ladder, shortest first, and what they cost together."""

    edges: list[int]
    cost: float


def link(candidates: _Ints, cost: _Floats, most: int) -> list[Chain]:
    """The cheapest chain of exactly 1, 2, … shapes that ends with the last candidate, by dynamic programming.

    Args:
        candidates: lengths in ascending order: [n].
        cost: of one shape: `cost[i, j]` holds what is longer than candidate i - 1 (0: everything) and not
            longer than candidate j: [n + 1, n]; infinite where i > j.
        most: shapes of the longest chain.
    """
    best, came_from, chains = cost[0], [], [Chain([int(candidates[-1])], float(cost[0, -1]))]
    for count in range(1, min(most, len(candidates))):
        total = best[:, None] + cost[1:]
        came_from.append(total.argmin(axis=0))
        best = total.min(axis=0)
        if not np.isfinite(best[-1]):
            break
        places = [len(candidates) - 1]
        for step in reversed(came_from[:count]):
            places.insert(0, int(step[places[0]]))
        chains.append(Chain([int(candidates[place]) for place in places], float(best[-1])))
    return chains


def _search(sample: Sample, request: LadderRequest, most: int) -> list[Chain]:
    """The cheapest ladders of 1, 2, … shapes, in seconds of the whole job."""
    candidates = _candidate_edges(sample, request)
    ends = _rows_up_to(sample, candidates)
    starts = np.concatenate([[0.0], ends])
    cost = np.full((len(candidates) + 1, len(candidates)), np.inf)
    for j, edge in enumerate(candidates.tolist()):
        rows = ends[j] - starts[: j + 1]
        options = [
            _price(rows, shape, sample, request) * sample.shards + request.compile_s(shape)
            for shape in _list_shapes(edge, request)
        ]
        cost[: j + 1, j] = np.min(options, axis=0)
    return link(candidates, cost, most)


def _fit_batches(edges: Sequence[int], sample: Sample, request: LadderRequest) -> Ladder:
    """The shapes of these lengths, each with the batch size that costs least; the largest of equals."""
    rows = np.diff(_rows_up_to(sample, np.array(edges)), prepend=0.0)
    shapes = []
    for edge, count in zip(edges, rows, strict=True):
        options = _list_shapes(edge, request)
        prices = [
            _price(np.array([count]), shape, sample, request)[0] * sample.shards + request.compile_s(shape)
            for shape in options
        ]
        shapes.append(options[int(np.argmin(prices))])
    return Ladder(tuple(shapes))


def _price(rows: _Floats, shape: Shape, sample: Sample, request: LadderRequest) -> _Floats:
    """Seconds that a shard's rows take in that shape."""
    cost, counts = request.cost, _count_batches(rows, shape.batch_size, sample)
    if cost.partial_s is None:
        return counts * cost.call_s(shape.batch_size, shape.sequence_length)
    alone_s = cost.call_s(1, shape.sequence_length) - cost.per_call_s
    partial_s = cost.partial_s if shape.batch_size > 1 else 0.0
    return counts * cost.per_call_s + rows * alone_s + (1.0 - np.exp(-rows)) * partial_s


def _list_shapes(edge: int, request: LadderRequest) -> list[Shape]:
    """Batch sizes worth a try, largest first: what fills the slots, parts of that, what is ready."""
    if request.batch_size is not None:
        return [Shape(request.batch_size, edge)]
    most = max(1, min(MAX_BATCH_ROWS, request.batch_slots // edge))
    sizes = {max(1, round(most * share)) for share in _SPLIT_BY}
    sizes |= {shape.batch_size for shape in request.ready if shape.sequence_length == edge}
    return [Shape(size, edge) for size in sorted(sizes, reverse=True)]


def _candidate_edges(sample: Sample, request: LadderRequest) -> _Ints:
    """Lengths worth a shape: each one where they are short, ever wider steps, what is ready, the limit."""
    limit = request.limit_tokens
    if not sample.lengths.size:
        return np.array([limit], dtype=np.int64)
    edges = _make_grid(limit)
    longest = int(sample.lengths.max())
    top = edges[np.searchsorted(edges, longest)] if longest <= edges[-1] else limit
    ready = np.array([shape.sequence_length for shape in request.ready], dtype=np.int64)
    edges = np.union1d(edges[edges <= top], ready)
    return np.append(edges[(edges >= sample.lengths.min()) & (edges < limit)], limit)


def _make_grid(limit: int) -> _Ints:
    """Lengths in ever wider steps, ascending, some of them beyond the limit."""
    grid = [np.arange(1, 32), np.arange(32, 64, 2), np.arange(64, 512, 8)]
    start = 512
    while start < limit:
        grid.append(np.arange(start, 2 * start, start // 32))
        start *= 2
    return np.concatenate(grid).astype(np.int64)


def _rows_up_to(sample: Sample, edges: _Ints) -> _Floats:
    """Items of a shard that are no longer than each of the edges, as the sample predicts: [n].

    One item of the longest length is counted for those that the sample missed.
    """
    if not sample.lengths.size:
        return np.zeros(len(edges))
    missed = 0 if sample.is_all else 1
    counts = np.searchsorted(np.sort(sample.lengths), edges, side="right").astype(np.float64)
    counts[-1] = len(sample.lengths) + missed
    return counts * (sample.items_per_shard / (len(sample.lengths) + missed))


def _count_batches(rows: _Floats, batch_size: int, sample: Sample) -> _Floats:
    """Batches that hold a shape's rows of one shard, the last one full or not: E[ceil(X / batch_size)].

    X, how many rows of a shard meet the shape, is Poisson with that mean. Where it spreads over several
    batches the last one is half full on average; below that its tails are summed. Where every row of the
    shard meets it, as images do, nothing is left to chance but how many windows split rows have.
    """
    plenty = rows > 4 * batch_size
    counts = (rows + (batch_size - 1) / 2) / batch_size
    if batch_size > 1 and not plenty.all():
        counts[~plenty] = np.interp(rows[~plenty], *_sum_tails(batch_size))
    every = rows > sample.items_per_shard - _ROUNDING_ROWS
    counts[every] = np.ceil(rows[every] / batch_size - _ROUNDING_ROWS)
    return counts


@cache
def _sum_tails(batch_size: int) -> tuple[_Floats, _Floats]:
    """Means up to four batches, and P(X > 0) + P(X > batch_size) + … for Poisson X of each: [n] both."""
    means = np.concatenate([[0.0], np.geomspace(0.01, 4 * batch_size, 96)])
    most = int(means[-1] + 8 * means[-1] ** 0.5) + batch_size
    values = np.arange(most)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(values[1:]))])
    logs = values * np.log(np.maximum(means, 1e-300))[:, None] - means[:, None] - log_factorials
    tails = 1.0 - np.cumsum(np.exp(logs), axis=1)[:, ::batch_size]
    return means, np.maximum(tails, 0.0).sum(axis=1)
