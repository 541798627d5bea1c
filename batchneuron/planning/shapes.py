"""Static shapes: the (batch_size, sequence_length) pairs that a job compiles.

A row's shape depends on its own length alone, so the same row meets the same shape in every run of the
same plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


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

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shape that `str` gave this text of.

        Raises:
            ValueError: it gave none such.
        """
        batch_size, sequence_length = text.split("x")
        return cls(int(batch_size), int(sequence_length))


@dataclass(frozen=True, slots=True)
class Ladder:
    """The shapes of a job, shortest first."""

    shapes: tuple[Shape, ...]

    @property
    def edges(self) -> NDArray[np.int64]:
        """Sequence length of each shape."""
        return np.array([shape.sequence_length for shape in self.shapes], dtype=np.int64)

    @property
    def max_length(self) -> int:
        """Tokens that fit the longest shape."""
        return self.shapes[-1].sequence_length

    def choose(self, lengths: NDArray[np.int32]) -> NDArray[np.intp]:
        """Index of the shortest shape that holds each length: intp [N].

        Raises:
            ValueError: a length is beyond the longest shape; encoding must have cut it.
        """
        chosen = np.searchsorted(self.edges, lengths, side="left")
        if chosen.size and chosen.max() == len(self.shapes):
            raise ValueError(f"{int(lengths.max())} tokens do not fit the longest shape, {self.max_length}")
        return chosen
