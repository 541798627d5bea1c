"""How much memory a CPU worker takes, and how it lays out its shapes in it.

A compiled shape holds its own packed weights, so eight shapes of a large model hold them eight times over.
One model with open shapes serves any number of them in a third to a half of the memory. On a CPU with
matrix units it takes about a tenth longer for the same shapes; without them it takes no longer, and four
times as many shapes, which cost nothing then, waste less. The two differ in the last bits of bfloat16, so
the choice depends on the weights and on the kind of machine alone, never on how much memory is free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from batchneuron.backends.machine import has_matrix_units, list_cpus, total_memory_bytes

Layout = Literal["static", "dynamic"]
_MIB = 1 << 20
_SHAPES = 8  # the most a planned ladder has
_INTERPRETER_BYTES = 160 * _MIB  # Python, Arrow, OpenVINO, a tokenizer
_SHARDS_BYTES = 60 * _MIB  # three shards of rows, items and outputs
_SHAPE_BYTES = 24 * _MIB  # activations of one batch, and the graph
_DYNAMIC_BYTES = 64 * _MIB  # the same for open shapes: the longest shape's, and kernels of each
_PACKED_SHARE = {"float32": 1.0, "bfloat16": 0.5}  # of the size of float32 weights
# Hosts rented for computing have 2 GiB for a CPU or more, of which the kernel keeps some.
_USUAL_SHARE_BYTES = 2048 * _MIB
_LEAN_SHARE_BYTES = 1536 * _MIB


def is_lean() -> bool:
    """Whether this machine has less memory for each CPU than hosts for computing have."""
    return total_memory_bytes() // len(list_cpus()) < _LEAN_SHARE_BYTES


def weights_bytes(folder: Path) -> int:
    """Size of a model's weights on disk."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def is_open() -> bool:
    """Whether every model keeps its shapes open on this machine, whatever its size."""
    return is_lean() or not has_matrix_units()


def choose_layout(weights: int, precision: str, *, is_open: bool) -> Layout:
    """`static`: each shape compiled for itself, where eight of them fit a CPU's usual share of memory."""
    fits = estimate_bytes(weights, precision, "static") <= _USUAL_SHARE_BYTES
    return "static" if fits and not is_open else "dynamic"


def estimate_bytes(weights: int, precision: str, layout: Layout) -> int:
    """Memory of one worker with eight shapes.

    The file of the weights is mapped, and so shared by all workers, but it counts: a page that is not in
    memory is read again for each shape.
    """
    packed = int(weights * _PACKED_SHARE[precision])
    compiled = _SHAPES * (packed + _SHAPE_BYTES) if layout == "static" else packed + _DYNAMIC_BYTES
    return _INTERPRETER_BYTES + _SHARDS_BYTES + weights + compiled
