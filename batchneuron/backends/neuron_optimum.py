"""A TorchScript file that optimum-neuron compiled, as an executable of the XLA stack's backend.

What it takes is not written down: the number of its inputs tells which they are, since optimum-neuron gives
them in a fixed order; what it gives is seen by running it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from batchneuron.backends.backend import Backend, Executable
from batchneuron.backends.guard import Guard
from batchneuron.backends.neuron_trace import TraceBackend, load_script
from batchneuron.errors import ArtifactMismatch, BackendError
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import TensorSpec
from batchneuron.stages.items import Tensor

_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def load_optimum(backend: Backend, path: Path, shape: Shape, config: Mapping[str, Any]) -> Executable:
    """The program on this process's core, run once.

    Args:
        backend: of the XLA stack; nothing else can load it.
        path: the compiled file.
        shape: what it is compiled for.
        config: the model's; says how large its images are.

    Raises:
        BackendError: this machine has no such backend.
        ArtifactMismatch: the program takes something else than texts or images.
    """
    if not isinstance(backend, TraceBackend):
        raise BackendError(
            "it was compiled by optimum-neuron, which only the backend neuron-trace can load",
            str(path),
            "open it on Inf2 or Trn1; here, give the model that it was compiled from",
        )
    backend.host.adopt_worker({})
    call, count = load_script(path, backend.host.describe_scene("loading", shape))
    inputs = _describe_inputs(count, shape, config, path)
    outputs = call(*(_make_example(spec) for spec in inputs))
    given = tuple(
        TensorSpec(f"output {number}", tuple(output.shape), str(output.dtype))
        for number, output in enumerate(outputs)
    )
    return Guard(call, shape, inputs, given)


def _describe_inputs(
    count: int, shape: Shape, config: Mapping[str, Any], path: Path
) -> tuple[TensorSpec, ...]:
    if count == 1 and "image_size" in config:
        size = config["image_size"]
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        pixels = (shape.batch_size, int(config.get("num_channels", 3)), height, width)
        return (TensorSpec("pixel_values", pixels, "float32"),)
    if not 1 < count <= len(_TEXT_INPUTS):
        raise ArtifactMismatch(f"a program of {count} inputs, which is no text encoder", str(path))
    tokens = (shape.batch_size, shape.sequence_length)
    return tuple(TensorSpec(name, tokens, "int64") for name in _TEXT_INPUTS[:count])


def _make_example(spec: TensorSpec) -> Tensor:
    """A valid input: every token is the first of the vocabulary, and none is padding."""
    return (np.ones if spec.name == "attention_mask" else np.zeros)(spec.shape, dtype=spec.dtype)
