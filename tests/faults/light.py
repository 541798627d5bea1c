"""The command line with a tokenizer and a program of a few lines, so that a process starts in a second.

Everything else is the real thing: plan, processes, pipes, parts, run folder. `python light.py run …` is
`batchneuron run …`; a spawned worker imports this file as its parent's main module, and is light too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.cli import main
from batchneuron.items import Items, Ragged, TaskItems, Tensor
from batchneuron.shapes import Shape
from batchneuron.tasks import text_classification
from batchneuron.tokenize import Limit

CLASSES = 45
_BATCH_S = 0.004
_WEIGHTS = np.random.default_rng(0).normal(size=(256, CLASSES)).astype(np.float32)


class LightTokenizer:
    """The bytes of a text are its tokens."""

    model_limit_tokens = 128

    def __init__(self, model: object) -> None:
        pass

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, limit: Limit) -> TaskItems:
        ids = [np.frombuffer(text.encode() or b" ", np.uint8)[: limit.max_tokens] for text in texts]
        lengths = np.array([len(row) for row in ids], np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        tokens = Ragged(np.concatenate(ids).astype(np.int32), offsets)
        items = Items(np.arange(len(ids)), lengths, {"input_ids": tokens}, {"input_ids": 0})
        return TaskItems(items, np.zeros(len(ids), dtype=np.bool_))


@dataclass(frozen=True)
class LightExecutable:
    """Scores that depend on a text's bytes, after a moment."""

    shape: Shape
    input_names = ("input_ids", "attention_mask")

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        time.sleep(_BATCH_S)
        ids, mask = inputs
        logits = (_WEIGHTS[ids % 256] * mask[..., None].astype(np.float32)).mean(1)
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        return ((scores / scores.sum(-1, keepdims=True)).astype(np.float32),)


text_classification.Tokenizer = LightTokenizer
TorchBackend.load = lambda _self, _folder, shape, _request: LightExecutable(shape)

if __name__ == "__main__":
    main()
