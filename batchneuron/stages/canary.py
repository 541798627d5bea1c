"""The canary: a device that gives every row the same answer is broken, and says nothing.

NaN is seen row by row; a stuck core or a program with lost weights gives finite numbers. That no two of
many different inputs differ in a single bit is what a working model never does.
"""

from __future__ import annotations

import numpy as np

from batchneuron.stages.execute import Executed
from batchneuron.stages.items import Items, Ragged

LEAST_INPUTS = 32


def is_uniform(items: Items, executed: Executed) -> bool:
    """Whether at least `LEAST_INPUTS` different inputs, all that there are, gave the very same numbers."""
    ids = items.tensors.get("input_ids")
    batches = executed.outputs.batches
    if not batches or not isinstance(ids, Ragged) or len(items) < LEAST_INPUTS:
        return False
    first = [tensor[0] for tensor in batches[0].tensors]
    for batch in batches:
        for tensor, known in zip(batch.tensors, first, strict=True):
            if tensor.shape[1:] != known.shape or not np.array_equal(
                tensor, np.broadcast_to(known, tensor.shape)
            ):
                return False
    return _has_many(ids)


def _has_many(ids: Ragged) -> bool:
    """Whether so many of the token lists differ."""
    seen: set[bytes] = set()
    for start, stop in zip(ids.offsets[:-1].tolist(), ids.offsets[1:].tolist(), strict=True):
        seen.add(ids.values[start:stop].tobytes())
        if len(seen) >= LEAST_INPUTS:
            return True
    return False
