"""Pixels: the images of a shard, as a quarter of the floats that the model takes.

Between two stages they are held as bytes: after resizing a pixel has one of 256 values, and what rescaling
and normalising make of each is read from a table when a batch is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchneuron.stages.items import Tensor


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images of N items in one dense array; an item is one image, so there is nothing to pad."""

    values: Tensor
    """uint8, or float32 where there is no table: [A, C, H, W]"""
    places: NDArray[np.intp]
    """Where in `values` each item's image is: [N]"""
    levels: NDArray[np.float32] | None
    """What the model takes for each byte: [C, 256]; None where the values are that already."""

    def pad(self, picks: NDArray[np.intp], length: int, fill: int) -> NDArray[np.float32]:
        """The picked images as the model takes them: float32 [len(picks), C, H, W]."""
        places = self.places[picks]
        if self.levels is None:
            return self.values[places]
        batch = np.empty((len(places), *self.values.shape[1:]), dtype=np.float32)
        for image, place in zip(batch, places, strict=True):  # one by one stays in the processor's cache
            for channel, levels in enumerate(self.levels):
                image[channel] = levels[self.values[place, channel]]
        return batch
