"""What a ladder is expected to waste, the least that any could, and what one shape more would save."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchneuron.planning.ladder import (
    LadderRequest,
    Sample,
    link,
    plan_ladder,
    plan_one_more,
    predict_s,
    predict_slots,
    predict_tokens,
)
from batchneuron.planning.shapes import Ladder

_FINEST = 512


@dataclass(frozen=True, slots=True)
class Forecast:
    """Shares of all slots that hold no token, fillers of partial batches included, 0 to 1."""

    padding_share: float
    """Of the ladder as planned."""
    least_share: float
    """Of any ladder with as many shapes, if every batch were full."""
    one_more_share: float | None
    """Of the best ladder with one shape more; None where there is none."""


def forecast(ladder: Ladder, sample: Sample, request: LadderRequest) -> Forecast:
    """What the sample says about a ladder."""
    more = plan_one_more(ladder, sample, request)
    return Forecast(
        padding_share=_padding_share(ladder, sample, request),
        least_share=_least_share(sample, request.limit_tokens, len(ladder.shapes)),
        one_more_share=None if more is None else _padding_share(more, sample, request),
    )


def expect_item_s(sample: Sample, request: LadderRequest) -> float:
    """Seconds that one core takes for an item of a job, all batches full; 0: nothing is known of the items.

    What lies compiled on this machine, or can be, has no part in it: every machine expects the same.
    """
    items = sample.items_per_shard * sample.shards
    if not sample.lengths.size:
        return 0.0
    whole = replace(sample, items_per_shard=items, shards=1)
    ladder = plan_ladder(whole, replace(request, ready=frozenset(), compiles=True))
    return predict_s(ladder, whole, request) / items


def _padding_share(ladder: Ladder, sample: Sample, request: LadderRequest) -> float:
    slots = predict_slots(ladder, sample, request)
    return max(0.0, 1.0 - predict_tokens(sample) / slots) if slots else 0.0


def _least_share(sample: Sample, limit: int, shapes: int) -> float:
    """Only lengths that occur are worth a shape; very many are rounded down, which wastes less still."""
    if not sample.lengths.sum():
        return 0.0
    step = -(-limit // _FINEST)
    lengths, counts = np.unique(sample.lengths.astype(np.int64) // step * step, return_counts=True)
    if lengths[-1] < limit // step * step:  # the limit is a shape whether or not a row needs it
        lengths, counts = np.append(lengths, limit // step * step), np.append(counts, 0)
    starts = np.concatenate([[0], np.cumsum(counts)])
    cost = (starts[1:][None, :] - starts[:, None]) * lengths[None, :].astype(np.float64)
    cost[np.tri(len(cost), len(lengths), -1, dtype=np.bool_)] = np.inf
    slots = min(chain.cost for chain in link(lengths, cost, shapes))
    return max(0.0, 1.0 - float(sample.lengths.sum()) / slots)
