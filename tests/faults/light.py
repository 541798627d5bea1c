"""The command line with a tokenizer and a program of a few lines, so that a process starts in a second.

Everything else is the real thing: plan, processes, pipes, parts, run folder. `python light.py run …` is
`batchneuron run …`; a spawned worker imports this file as its parent's main module, which is not hidden from
it, and is light too.

    LIGHT_BEGUN=FILE     gets a line for each shard that a worker begins
    LIGHT_CLOCK=+3600    the wall clock is an hour fast; `jumps`: an hour off, now before, now behind
    LIGHT_EIO=FOLDER:3   of all workers' calls of fsync the first three fail; FOLDER counts them
    LIGHT_TIMEOUT=2      seconds that S3 has for an answer, in place of a minute
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.cli import main
from batchneuron.planning.shapes import Shape
from batchneuron.programs import padding
from batchneuron.stages.items import Items, Ragged, TaskItems, Tensor
from batchneuron.stages.runner import Runner
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import text_classification
from batchneuron.workers import spawn

spawn.hide_main = contextlib.nullcontext
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
        tokens = Ragged(np.concatenate([[], *ids]).astype(np.int32), offsets)
        items = Items(np.arange(len(ids)), lengths, {"input_ids": tokens}, {"input_ids": 0})
        return TaskItems(items, np.zeros(len(ids), dtype=np.bool_))


@dataclass(frozen=True)
class LightExecutable:
    """Scores that depend on a text's bytes, after a moment."""

    shape: Shape
    input_names = ("input_ids", "attention_mask")

    @property
    def least_rows(self) -> int:
        return self.shape.batch_size

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        time.sleep(_BATCH_S)
        ids, mask = inputs
        real = mask[..., None].astype(np.float32)
        logits = (_WEIGHTS[ids % 256] * real).sum(1) / real.sum(1)
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        return ((scores / scores.sum(-1, keepdims=True)).astype(np.float32),)


def note_begun(path: Path) -> None:
    """Let each shard that is begun leave a line."""
    encode = Runner.encode

    def note_and_encode(runner, shard, *case):
        with path.open("a") as file:
            file.write(f"{shard.index}\n")
        return encode(runner, shard, *case)

    Runner.encode = note_and_encode


def break_disk(folder: Path, times: int) -> None:
    """Let fsync fail so many times, over all workers."""
    fsync = os.fsync

    def fail_or_flush(descriptor):
        for number in range(times):
            try:
                (folder / f"{number}.eio").touch(exist_ok=False)
            except FileExistsError:
                continue
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    os.fsync = fail_or_flush


def spoil_clock(how: str) -> None:
    """Let the wall clock be wrong; the monotonic one is nobody's to change."""
    dice, now, now_ns = random.Random(how), time.time, time.time_ns

    def skew_s() -> int:
        return dice.choice((-3600, 3600)) if how == "jumps" else int(how)

    time.time = lambda: now() + skew_s()
    time.time_ns = lambda: now_ns() + skew_s() * 1_000_000_000


def shorten_timeouts(most_s: float) -> None:
    """Let S3 clients wait for no longer."""
    import boto3.session  # noqa: F401  # what compares types has its own name for it by then
    import botocore.config

    class Hasty(botocore.config.Config):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **{**named, "read_timeout": most_s, "connect_timeout": most_s})

    botocore.config.Config = Hasty


text_classification.Tokenizer = padding.Tokenizer = LightTokenizer
TorchBackend.load = lambda _self, _folder, shape, _request: LightExecutable(shape)
if "LIGHT_BEGUN" in os.environ:
    note_begun(Path(os.environ["LIGHT_BEGUN"]))
if "LIGHT_CLOCK" in os.environ:
    spoil_clock(os.environ["LIGHT_CLOCK"])
if "LIGHT_TIMEOUT" in os.environ:
    shorten_timeouts(float(os.environ["LIGHT_TIMEOUT"]))
if "LIGHT_EIO" in os.environ and __name__ == "__mp_main__":  # a worker
    break_disk(
        Path(os.environ["LIGHT_EIO"].rpartition(":")[0]), int(os.environ["LIGHT_EIO"].rpartition(":")[2])
    )

if __name__ == "__main__":
    main()
