"""What a batch costs: seconds of a core by shape, from what a backend says of the core.

Only ratios matter to the planner: what a call costs beside its slots, what attention adds in long
shapes, and what compiling one more shape costs beside the whole job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
_WIDTHS = ("hidden_size", "dim", "d_model", "n_embd", "emb_dim")
_BERT_BASE = (12, 768)
_EVEN_TOKENS = 16  # float32 of a vector register of AVX512
_PYRAMID_PATCH = 16  # pixels: what Swin and its like see most of their layers in


@dataclass(frozen=True, slots=True)
class DeviceCost:
    """What one core is like. The defaults are a CPU's: 0.2 TFLOP/s a thread, nothing to compile."""

    per_call_s: float = 0.001
    """A call's own time, however small its batch is."""
    flop_per_s: float = 2e11
    """What is reached in the matrix products of an encoder, not what is printed on the box."""
    compile_s: float = 0.0
    """Compiling one shape, during which the core waits."""
    partial_s: float | None = None
    """What a batch with fewer rows than its shape costs beside them; None: it is filled up with copies."""
    uneven_tokens: int = 0
    """As if each slot looked at so many more, in a shape whose length is no multiple of `_EVEN_TOKENS`."""
    memory_bytes: int | None = None
    """For weights that lie there once per shape; None: they are shared, or memory is no limit."""

    def count_shapes(self, weights_bytes: int, most: int) -> int:
        """How many shapes' weights fit in half of the memory; the rest is for activations."""
        if self.memory_bytes is None:
            return most
        return max(1, min(most, self.memory_bytes // 2 // max(1, weights_bytes)))


@dataclass(frozen=True, slots=True)
class ShapeCost:
    """Seconds of one core for one model; where nothing is known, a slot is one and a call 32 of them."""

    per_call_s: float = 32.0
    per_slot_s: float = 1.0
    per_pair_s: float = 0.0
    """Attention: for each slot, and each slot it looks at."""
    compile_s: float = 0.0
    """Once for each shape of a job."""
    partial_s: float | None = None
    """For a batch that goes with the rows it has; None: each is filled up."""
    uneven_tokens: int = 0
    """What each slot looks at beside the sequence, where that is no multiple of `_EVEN_TOKENS`."""

    def call_s(self, batch_size: int, sequence_length: int) -> float:
        """One batch of that shape."""
        slots, seen = batch_size * sequence_length, sequence_length
        if sequence_length % _EVEN_TOKENS:
            seen += self.uneven_tokens
        return self.per_call_s + slots * (self.per_slot_s + self.per_pair_s * seen)


def estimate_cost(device: DeviceCost, config: Mapping[str, Any]) -> ShapeCost:
    """The cost of a transformer encoder on that core.

    Per slot and layer: 24 h² FLOP in the linear layers, whose feed-forward part is four times as wide, and
    4 h FLOP for each slot that attention looks at. BERT-base where the configuration names no sizes. An
    image is one place of a batch, and as much work as a text of its patches.
    """
    layers, width = (
        next((config[name] for name in names if isinstance(config.get(name), int)), usual)
        for names, usual in zip((_LAYERS, _WIDTHS), _BERT_BASE, strict=True)
    )
    tokens = count_tokens(config)
    return ShapeCost(
        per_call_s=device.per_call_s,
        per_slot_s=24 * layers * width**2 * tokens / device.flop_per_s,
        per_pair_s=4 * layers * width * tokens**2 / device.flop_per_s,
        compile_s=device.compile_s,
        partial_s=device.partial_s,
        uneven_tokens=device.uneven_tokens if tokens == 1 else 0,
    )


def count_tokens(config: Mapping[str, Any]) -> int:
    """Tokens that one slot is to the model: 1, or an image's patches and one for the class (ViT)."""
    image, patch = config.get("image_size"), config.get("patch_size")
    if not isinstance(image, int) or not isinstance(patch, int):
        return 1
    if "depths" in config:
        patch = max(patch, _PYRAMID_PATCH)
    return (image // max(1, patch)) ** 2 + 1
