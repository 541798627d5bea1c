"""Guard: what goes to a compiled program and comes back is held on the host against what it was compiled for.

A device's runtime reports a wrong shape by a status that says neither which input nor why (SDK issues #613,
#681), and runs another program's input without a word where the sizes happen to agree. Token ids are not
looked at here but in `execute`, once for a shard and for every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchneuron.errors import ProgramError
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import TensorSpec, require_inputs
from batchneuron.stages.items import Tensor

_OURS = "this is a bug of ours: please report it"


@dataclass(frozen=True, slots=True)
class Guard:
    """An executable made of a bare call."""

    call: Callable[..., Sequence[Tensor]]
    shape: Shape
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def least_rows(self) -> int:
        """All that the shape has."""
        return self.shape.batch_size

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs it takes, in order."""
        return tuple(spec.name for spec in self.inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs [B, …] of inputs [B, …], in the order of `input_names`.

        Integers may come in any integer type that their values fit, floating numbers in any floating one.

        Raises:
            ProgramError: tensors of another number, shape or type, on the way in or back.
        """
        fitting = [_fit(spec, given) for spec, given in zip(self.inputs, inputs, strict=False)]
        require_inputs(self.inputs, [*fitting, *inputs[len(fitting) :]], str(self.shape))
        outputs = tuple(self.call(*fitting))
        self._require_outputs(outputs)
        return outputs

    def _require_outputs(self, outputs: Sequence[Tensor]) -> None:
        if len(outputs) != len(self.outputs):
            raise self._refuse(f"{len(outputs)} outputs came back, and there are {len(self.outputs)}")
        for spec, given in zip(self.outputs, outputs, strict=True):
            # int64 may come back as int32, to which the compiler narrows it.
            same_kind = np.dtype(spec.dtype).kind == given.dtype.kind
            if given.shape != spec.shape or not same_kind:
                raise self._refuse(f"{given.dtype} {list(given.shape)} came back for {spec}")

    def _refuse(self, what: str) -> ProgramError:
        return ProgramError(what, f"program for {self.shape}", _OURS)


def _fit(spec: TensorSpec, given: Tensor) -> Tensor:
    """The input in one piece of memory, and in the program's type where that keeps its values."""
    kind = np.dtype(spec.dtype)
    both = {given.dtype.kind, kind.kind}
    if both == {"f"} or (both <= {"i", "u"} and _holds(kind, given)):
        return np.ascontiguousarray(given, dtype=kind)
    return given


def _holds(kind: np.dtype[Any], given: Tensor) -> bool:
    limits = np.iinfo(kind)
    return not given.size or (int(given.min()) >= limits.min and int(given.max()) <= limits.max)
