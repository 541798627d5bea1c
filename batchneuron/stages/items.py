"""What travels through a worker's stages.

An item is one line of a batch. Most rows are one item; a long row that is split is several. Tensors
are kept ragged, as one flat array and its offsets, and padded only when a batch is made.

Shapes in this project: N items, A accepted rows, B batch rows, L batch length, H hidden, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchneuron.rejection import Rejection

Tensor = NDArray[Any]


class Sequences(Protocol):
    """One input of the program for N items, not padded yet."""

    def pad(self, picks: NDArray[np.intp], length: int, fill: int) -> Tensor:
        """The picked items, filled up to the batch's length: [len(picks), length, …]."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """N sequences of different lengths in one flat array."""

    values: Tensor
    """[sum of lengths]"""
    offsets: NDArray[np.int64]
    """[N + 1], from 0"""

    def pad(self, picks: NDArray[np.intp], length: int, fill: int) -> NDArray[np.int64]:
        """The picked sequences, right-padded: int64 [len(picks), length]."""
        starts = self.offsets[picks]
        lengths = self.offsets[picks + 1] - starts
        places = np.arange(length)
        real = places < lengths[:, None]
        source = np.where(real, starts[:, None] + places, 0)
        if not self.values.size:
            return np.full((len(picks), length), fill, dtype=np.int64)
        return np.where(real, self.values[source], fill).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Items:
    """N items, in row order."""

    rows: NDArray[np.int64]
    """Which accepted row each item belongs to, ascending: [N]"""
    lengths: NDArray[np.int32]
    """Tokens of each item: [N]"""
    tensors: Mapping[str, Sequences]
    """Inputs of the program by name; `attention_mask` is made from the lengths."""
    fills: Mapping[str, int]
    """What each tensor is padded with; 0 where nothing is said."""
    host: Mapping[str, Any] = field(default_factory=dict)
    """What decoding needs and the device does not: offsets, texts."""

    def __len__(self) -> int:
        return len(self.lengths)

    def make_input(self, name: str, picks: NDArray[np.intp], length: int) -> Tensor:
        """One input of the program for these items, padded: [len(picks), length, …].

        The attention mask follows from the lengths; an input that the items do not have is zeros, which is
        what a model with token types means by a text without them.
        """
        if name == "attention_mask":
            return (np.arange(length) < self.lengths[picks][:, None]).astype(np.int64)
        if name not in self.tensors:
            return np.zeros((len(picks), length), dtype=np.int64)
        return self.tensors[name].pad(picks, length, self.fills.get(name, 0))


@dataclass(frozen=True, slots=True)
class TaskItems:
    """What a task makes of A input rows."""

    items: Items
    truncated: NDArray[np.bool_]
    """Rows that were cut to fit: [A]"""
    rejections: tuple[Rejection, ...] = ()
    """Rows without items, by their place among the A."""


@dataclass(frozen=True, slots=True)
class OutputBatch:
    """What the device gave for some items."""

    picks: NDArray[np.intp]
    """Which items: [n]"""
    tensors: tuple[Tensor, ...]
    """The program's outputs, fillers cut off: [n, …] each"""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the device gave for N items, batch by batch."""

    items: int
    batches: tuple[OutputBatch, ...]

    def stack(self, index: int) -> Tensor:
        """One output of the program in item order: [N, …]; for outputs of the same size in every shape."""
        first = self.batches[0].tensors[index]
        stacked = np.empty((self.items, *first.shape[1:]), dtype=first.dtype)
        for batch in self.batches:
            stacked[batch.picks] = batch.tensors[index]
        return stacked


def fold_mean(values: NDArray[np.float32], items: Items, rows: int) -> NDArray[np.float32]:
    """Rows from items: the mean of each row's items, weighted by their tokens: float32 [rows, …].

    A row of one item keeps its bits.
    """
    if len(items) == rows:
        return values.astype(np.float32, copy=False)
    weights = items.lengths.astype(np.float64)
    shape = (-1,) + (1,) * (values.ndim - 1)
    starts = np.searchsorted(items.rows, np.arange(rows))
    sums = np.add.reduceat(values * weights.reshape(shape), starts, axis=0)
    folded = (sums / np.add.reduceat(weights, starts).reshape(shape)).astype(np.float32)
    alone = np.bincount(items.rows, minlength=rows) == 1
    folded[alone] = values[starts[alone]]
    return folded
