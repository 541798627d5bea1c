"""Vectors in fewer bits: float16, int8, and one bit per number.

Formats of sentence-transformers' `quantize_embeddings`, so that its search code reads them. Ranges come
from one calibration per run, never from the rows at hand: vectors of one output must be comparable.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.planning.plan import Calibration

LARGEST_FLOAT16 = 65504.0
_LEVELS = 255
_TYPES = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "int8": pa.int8(),
    "binary": pa.int8(),
    "ubinary": pa.uint8(),
}


@dataclass(frozen=True, slots=True)
class Ranges:
    """What int8 numbers stand for: `minimum + (number + 128) * step`, dimension by dimension."""

    minimums: NDArray[np.float32]
    steps: NDArray[np.float32]

    def describe(self) -> dict[str, str]:
        """Metadata of the column, so that the numbers can be turned back."""
        return {
            "int8_minimums": json.dumps(self.minimums.tolist()),
            "int8_steps": json.dumps(self.steps.tolist()),
        }


def read_ranges(calibration: Calibration) -> Ranges:
    """Ranges from what a calibration measured; a dimension that never varies gets a step of 1."""
    low = np.array(calibration["minimums"], np.float32)
    steps = (np.array(calibration["maximums"], np.float32) - low) / np.float32(_LEVELS)
    return Ranges(low, np.where(steps > 0, steps, np.float32(1)))


def measure_ranges(vectors: NDArray[np.float32]) -> Calibration:
    """Least and greatest number of each dimension of float32 [A, H]."""
    return {"minimums": tuple(vectors.min(axis=0).tolist()), "maximums": tuple(vectors.max(axis=0).tolist())}


def join_ranges(measured: Sequence[Calibration], width: int) -> Calibration:
    """Ranges that hold all samples; without a sample, those of vectors of length 1."""
    low = [sample["minimums"] for sample in measured] or [(-1.0,) * width]
    high = [sample["maximums"] for sample in measured] or [(1.0,) * width]
    return {"minimums": tuple(np.min(low, axis=0).tolist()), "maximums": tuple(np.max(high, axis=0).tolist())}


def vector_type(dtype: str, width: int) -> pa.DataType:
    """The column's type: a fixed-size list; binary forms hold eight numbers a byte."""
    return pa.list_(_TYPES[dtype], -(-width // 8) if dtype.endswith("binary") else width)


def quantize(vectors: NDArray[np.float32], dtype: str, ranges: Ranges | None) -> NDArray[np.generic]:
    """Vectors float32 [A, H] as numbers of the wanted type, [A, H] or [A, ceil(H / 8)].

    Numbers beyond what the type or the ranges can hold become the nearest that they can.
    """
    if dtype == "float16":
        halves: NDArray[np.float16] = np.clip(vectors, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)
        return halves
    if dtype == "int8" and ranges is not None:
        levels = np.rint((vectors - ranges.minimums) / ranges.steps)
        numbers: NDArray[np.int8] = (np.clip(levels, 0, _LEVELS) - 128).astype(np.int8)
        return numbers
    if dtype.endswith("binary"):
        packed: NDArray[np.uint8] = np.packbits(vectors > 0, axis=1)
        signed: NDArray[np.int8] = (packed.astype(np.int16) - 128).astype(np.int8)
        return packed if dtype == "ubinary" else signed
    return vectors
