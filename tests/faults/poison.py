"""The light command line, over a program and a tokenizer that some texts are too much for.

What a text says happens when it is computed, read, encoded or decoded: a segmentation fault, an endless loop,
a kill as by the OOM killer, memory that cannot be had, an exception, a panic.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import multiprocess
import numpy as np

from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.cli import main
from batchneuron.planning.shapes import Shape
from batchneuron.sources.reader import SliceReader
from batchneuron.sources.source import ShardRows, Slice
from batchneuron.stages.items import Items, Outputs, TaskItems, Tensor
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import text_classification
from batchneuron.tasks.task import Decoded
from batchneuron.tasks.text_classification import TextClassification
from tests.faults.light import LightExecutable, LightTokenizer

_FAR_TOO_MUCH = 1 << 50


class Panic(BaseException):
    """What pyo3 makes of a panic in Rust: no `Exception`."""


def _refuse() -> None:
    raise ValueError("this row is odd")


def _panic() -> None:
    raise Panic("this row is odd")


DEEDS = {
    b"<segfault>": lambda: ctypes.string_at(0),
    b"<abort>": os.abort,
    b"<hang>": lambda: time.sleep(1e6),
    b"<stop>": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    b"<oom kill>": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"<no memory>": lambda: np.ones(_FAR_TOO_MUCH),
    b"<exception>": _refuse,
    b"<panic>": _panic,
}


@dataclass(frozen=True)
class PoisonableExecutable:
    """The light program, once no row of the batch has done its deed."""

    shape: Shape
    input_names = LightExecutable.input_names
    least_rows = LightExecutable.least_rows

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        ids, mask = inputs
        for row, real in zip(ids, mask, strict=True):
            _do_deed(row[real == 1].astype(np.uint8).tobytes())
        return LightExecutable(self.shape)(*inputs)


class PoisonableTokenizer(LightTokenizer):
    """Dies of texts that say `<at encode>`, in the way they say; those texts are computed in peace."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, limit: Limit) -> TaskItems:
        for text in texts:
            if "<at encode>" in text:
                _do_deed(text.encode(), "encode")
        return super().encode(texts, pairs, limit)


def decode_or_die(self: TextClassification, items: Items, rows: int, outputs: Outputs) -> Decoded:
    """The task's own way, once no text that says `<at decode>` has done its deed."""
    tokens = items.tensors["input_ids"]
    for start, end in pairwise(tokens.offsets):
        _do_deed(tokens.values[start:end].astype(np.uint8).tobytes(), "decode")
    return decode(self, items, rows, outputs)


def read_or_die(self: SliceReader, slices: Sequence[Slice]) -> ShardRows:
    """The reader's own way; in a worker, once no text that says `<at read>` has done its deed."""
    rows = read(self, slices)
    if multiprocess.parent_process() is not None:
        for text in rows.table["definition"].to_pylist():
            _do_deed(text.encode(), "read")
    return rows


def _do_deed(text: bytes, stage: str = "execute") -> None:
    if stage == next((at for at in ("read", "encode", "decode") if f"<at {at}>".encode() in text), "execute"):
        for word, deed in DEEDS.items():
            if word in text:
                deed()


text_classification.Tokenizer = PoisonableTokenizer
read = SliceReader.read
SliceReader.read = read_or_die
decode = TextClassification.decode
TextClassification.decode = decode_or_die
TorchBackend.load = lambda _self, _folder, shape, _request: PoisonableExecutable(shape)

if __name__ == "__main__":
    main()
