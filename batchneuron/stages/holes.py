"""Holes: batches without some of their items, every other item where it was.

What is computed beside a row does not change its bits; that it stays in its slot makes it certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from batchneuron.stages.execute import Executed
from batchneuron.stages.gather import Batch
from batchneuron.stages.items import OutputBatch, Outputs


def punch(batches: Sequence[Batch], is_hole: NDArray[np.bool_]) -> list[Batch]:
    """The batches without the items of the mask, [N], the others numbered anew from 0.

    As many batches as before: one that has lost all its items is empty.
    """
    numbers = np.cumsum(~is_hole) - 1
    punched = []
    for batch in batches:
        stays = ~is_hole[batch.picks]
        punched.append(Batch(batch.index, numbers[batch.picks[stays]], batch.rows, batch.slots[stays]))
    return punched


def narrow(batch: Batch, lo: int, hi: int) -> Batch:
    """The batch with nothing but what is in its slots `lo` to `hi`."""
    stays = (batch.slots >= lo) & (batch.slots < hi)
    return Batch(batch.index, batch.picks[stays], batch.rows, batch.slots[stays])


def sift(executed: Executed, is_hole: NDArray[np.bool_]) -> Executed:
    """What came back for the items that are not in the mask, [N], numbered anew from 0."""
    numbers = np.cumsum(~is_hole) - 1
    sifted = []
    for batch in executed.outputs.batches:
        stays = ~is_hole[batch.picks]
        if stays.any():
            tensors = tuple(tensor[stays] for tensor in batch.tensors)
            sifted.append(OutputBatch(numbers[batch.picks[stays]], tensors))
    return replace(executed, outputs=Outputs(int(numbers[-1]) + 1, tuple(sifted)))
