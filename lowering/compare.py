"""Whether a lowered program gives the numbers of eager mode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from lowering.outcome import Finding

# Of the largest number: float32 sums in another order, and bfloat16 rounded in other places of every layer.
TOLERANCE = {"float32": 2e-5, "bfloat16": 0.1}


def measure_error(made: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], precision: str) -> float:
    """Largest difference as a share of the largest number; infinite for NaN, another shape, type or integer.

    In bfloat16 nearly equal numbers may change places, so integers are compared in float32 alone.
    """
    worst = 0.0
    for one, other in zip(made, expected, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype or not one.isfinite().all():
            return math.inf
        if one.is_floating_point():
            largest = other.abs().max().clamp(min=1e-30)
            worst = max(worst, float((one - other).abs().max() / largest))
        elif precision == "float32" and not torch.equal(one, other):
            return math.inf
    return worst


def check_error(error: float, precision: str, rounding: float = 0.0) -> Iterator[Finding]:
    """Red where it is beyond what rounding explains; `rounding` is the error that eager mode itself makes."""
    tolerance = max(TOLERANCE[precision], 2 * rounding)
    if not error <= tolerance:
        yield Finding("red", f"other numbers than in eager mode (tolerance {tolerance:.2g})")
