"""Sample: a call on rows from all over the input, before there are workers that a row may cost one of.

The sample is the same in each run: a row of it that kills whoever runs it, or makes a library raise, would
end every run alike. So the call is made again with other rows; the run itself then finds that row, and
rejects it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from batchneuron.errors import BackendError, BatchNeuronError, WorkerFailed
from batchneuron.planning.plan import Shard, head_slices, sample_shards
from batchneuron.sources.source import Slice
from batchneuron.workers.aside import Aside

_Result = TypeVar("_Result")
_SAMPLED_SHARDS = 16
# These classes themselves: the process died, or raised what is none of our errors. What a kind of them says,
# a device or a model, is not the rows' fault.
_MAY_BE_A_ROWS = (WorkerFailed, BatchNeuronError)


def call_on_sample(
    bind: Callable[[Sequence[Shard]], Callable[[], _Result]],
    shards: Sequence[Shard],
    aside: Aside,
    name: str,
    way_out: str,
) -> _Result:
    """What a call makes of some rows of some shards; of others, where it dies of them.

    Args:
        bind: the call for some shards, of which it always reads the same rows.
        shards: all shards of the plan.
        aside: where to make it.
        name: what is done, for people: `calibration`.
        way_out: what a user can set to do without it.

    Raises:
        BackendError: the process died, or gave no answer, whichever rows it had last.
        BatchNeuronError: whatever the call raises.
    """
    sample = sample_shards(shards, _SAMPLED_SHARDS)
    firsts, seconds = zip(*map(_halve, sample), strict=True)
    last: BatchNeuronError | None = None
    # Second halves before first ones, which begin with the rows of the sample.
    for some in (sample, seconds, firsts):
        if some is not sample and not any(shard.rows for shard in some):
            continue
        try:
            return aside(bind(some), name)
        except _MAY_BE_A_ROWS as error:
            if type(error) not in _MAY_BE_A_ROWS:
                raise
            last = error
    if type(last) is BatchNeuronError:
        raise last
    raise BackendError(
        f"{last.what if last else name}, whichever rows it had",
        hint=f"rows kill whoever runs them, or memory runs out: take them out, or {way_out}",
    ) from last


def _halve(shard: Shard) -> tuple[Shard, Shard]:
    middle = shard.rows // 2
    first, second = head_slices(shard, middle), _tail_slices(shard, middle)
    return replace(shard, slices=first), replace(shard, row_lo=shard.row_lo + middle, slices=second)


def _tail_slices(shard: Shard, start: int) -> tuple[Slice, ...]:
    """The slices of a shard's rows from the `start`-th on."""
    pieces: list[Slice] = []
    for piece in shard.slices:
        if start < piece.rows:
            pieces.append(replace(piece, row_lo=piece.row_lo + start))
        start = max(0, start - piece.rows)
    return tuple(pieces)
