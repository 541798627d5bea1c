"""A backend whose answers can be worked out by hand, and items to feed it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batchneuron.backends.backend import BackendFacts, CompileRequest, Core
from batchneuron.model import Model
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages.items import Items, Ragged, Tensor


def make_ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    """Sequences in one flat array."""
    values = np.array([value for row in rows for value in row], np.int32)
    return Ragged(values, np.cumsum([0, *map(len, rows)], dtype=np.int64))


def make_items(tokens: Sequence[Sequence[int]], rows: Sequence[int] | None = None, fill: int = 0) -> Items:
    """Items with these tokens; `rows` says which row each belongs to, by default one each."""
    return Items(
        rows=np.array(range(len(tokens)) if rows is None else rows, np.int64),
        lengths=np.array([len(row) for row in tokens], np.int32),
        tensors={
            "input_ids": make_ragged(tokens),
            "token_type_ids": make_ragged([[0] * len(row) for row in tokens]),
        },
        fills={"input_ids": fill, "token_type_ids": 0},
    )


def sum_tokens(ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """The sum of each item's tokens, and its first and last token: float32 [B], int64 [B, 2]."""
    last = np.take_along_axis(ids, mask.sum(axis=1, keepdims=True) - 1, axis=1)
    return (ids * mask).sum(axis=1).astype(np.float32), np.concatenate([ids[:, :1], last], axis=1)


Answer = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@dataclass(slots=True)
class ArithmeticExecutable:
    """Calls a function on ids and mask, and remembers what it saw."""

    shape: Shape
    answer: Answer = sum_tokens
    seen: list[dict[str, Tensor]] = field(default_factory=list)
    input_names: tuple[str, ...] = ("input_ids", "attention_mask")
    is_open: bool = False
    """Takes any number of rows up to its shape's."""

    @property
    def least_rows(self) -> int:
        return 1 if self.is_open else self.shape.batch_size

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        batch = dict(zip(self.input_names, inputs, strict=True))
        self.seen.append(batch)
        return self.answer(batch["input_ids"], batch["attention_mask"])


def load_all(
    ladder: Ladder, answer: Answer = sum_tokens, *, is_open: bool = False
) -> tuple[ArithmeticExecutable, ...]:
    """One executable per shape; all of them remember into one list, in the order of their calls."""
    seen: list[dict[str, Tensor]] = []
    return tuple(ArithmeticExecutable(shape, answer, seen, is_open=is_open) for shape in ladder.shapes)


@dataclass(slots=True)
class ArithmeticBackend:
    """Compiles to a file that names the shape; counts how often."""

    compiles_per_shape: bool = True
    target: str = "paper"
    precision: str = "float32"
    versions: Mapping[str, str] = field(default_factory=lambda: {"pencil": "2"})
    compiler_args: Mapping[str, int] = field(default_factory=dict)
    compiled: list[Shape] = field(default_factory=list)

    @property
    def facts(self) -> BackendFacts:
        return BackendFacts(
            kind="arithmetic",
            target=self.target,
            precision=self.precision,
            versions=self.versions,
            compiler_args=self.compiler_args,
            batch_slots=64,
            compiles_per_shape=self.compiles_per_shape,
            is_reference=True,
        )

    def list_cores(self) -> tuple[Core, ...]:
        return (Core(0), Core(1))

    def memory_per_worker_bytes(self, model: Model) -> int:
        return 1

    def compile_needs(self, model: Model) -> None:
        return None

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        self.compiled.append(shape)
        (folder / "program.json").write_text(json.dumps({"task": request.task, "shape": str(shape)}))
        (folder / "weights.bin").write_bytes(bytes(range(256)))

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> ArithmeticExecutable:
        return ArithmeticExecutable(shape)
