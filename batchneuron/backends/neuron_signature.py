"""The tensors that a compiled program takes and gives: facts that lie beside it, as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchneuron.errors import ArtifactMismatch
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import TensorSpec

if TYPE_CHECKING:
    from batchneuron.programs.program import Program

_FILE = "tensors.json"


@dataclass(frozen=True, slots=True)
class Signature:
    """All tensors of one compiled program, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def write(self, folder: Path) -> None:
        """Keep it in an artifact's folder."""
        (folder / _FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")


def measure_signature(program: Program, shape: Shape) -> Signature:
    """The tensors of a program for one shape, which is run once on the CPU to see what it gives."""
    import torch

    with torch.no_grad():
        outputs: Sequence[torch.Tensor] = program(*program.example_inputs(shape))
    given = tuple(
        TensorSpec(f"output {number}", tuple(output.shape), str(output.dtype).removeprefix("torch."))
        for number, output in enumerate(outputs)
    )
    return Signature(program.input_specs(shape), given)


def read_signature(folder: Path) -> Signature:
    """The signature of the artifact in a folder.

    Raises:
        ArtifactMismatch: it has none, or one that another version wrote.
    """
    try:
        kept = json.loads((folder / _FILE).read_text())
        return Signature(*(tuple(map(_read_spec, kept[side])) for side in ("inputs", "outputs")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactMismatch(
            f"its tensors are not described: {error}", str(folder), "delete the folder and compile again"
        ) from error


def _read_spec(kept: Any) -> TensorSpec:
    return TensorSpec(str(kept["name"]), tuple(map(int, kept["shape"])), str(kept["dtype"]))
