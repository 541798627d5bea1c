"""What a program takes: name, shape and type of each input, and the check that it gets just that.

Compiled programs have fixed shapes and types, and their own errors do not say which input was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchneuron.errors import ProgramError
from batchneuron.stages.items import Tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input of a program of one shape."""

    name: str
    shape: tuple[int, ...]
    """[B, L] for tokens, [B, C, H, W] for pixels"""
    dtype: str
    """As numpy has it: int64, float32."""

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} {list(self.shape)}"


def require_inputs(specs: Sequence[TensorSpec], inputs: Sequence[Tensor], where: str) -> None:
    """Let inputs through that are what the program takes.

    Raises:
        ProgramError: their number, a shape or a type is another; names the input.
    """
    if len(inputs) != len(specs):
        wanted = ", ".join(spec.name for spec in specs)
        raise ProgramError(f"{len(inputs)} inputs, and the program takes {wanted}", where)
    for spec, tensor in zip(specs, inputs, strict=True):
        if tuple(tensor.shape) != spec.shape or str(tensor.dtype) != spec.dtype:
            given = f"{tensor.dtype} {list(tensor.shape)}"
            raise ProgramError(f"{given} for an input that is compiled as {spec}", where)
