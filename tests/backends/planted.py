"""A backend that computes as the reference does, but for a fault that was planted in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from batchneuron.backends.backend import BackendFacts, CompileRequest, Core, Executable
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.model import Model
from batchneuron.planning import prepare
from batchneuron.planning.shapes import Shape
from batchneuron.spec.sections import JobSpec
from batchneuron.stages import runner
from batchneuron.stages.items import Tensor

Batch = dict[str, Tensor]
Fault = Callable[[Executable, Batch], tuple[Tensor, ...]]


def none(executable: Executable, batch: Batch) -> tuple[Tensor, ...]:
    """No fault."""
    return executable(*batch.values())


def ignored_mask(executable: Executable, batch: Batch) -> tuple[Tensor, ...]:
    """Every place counts as a token."""
    return executable(*(batch | {"attention_mask": np.ones_like(batch["attention_mask"])}).values())


def nan(executable: Executable, batch: Batch) -> tuple[Tensor, ...]:
    """NaN where a row is half padding or more."""
    outputs = executable(*batch.values())
    mask = batch["attention_mask"]
    is_hit = mask.sum(axis=1) <= mask.shape[1] // 2
    return tuple(np.where(is_hit.reshape(-1, *[1] * (output.ndim - 1)), np.nan, output) for output in outputs)


def nudge(executable: Executable, batch: Batch) -> tuple[Tensor, ...]:
    """One per cent more, or less, by turns: what bfloat16 may do."""
    outputs = executable(*batch.values())
    return tuple(output * np.where(np.arange(output.shape[-1]) % 2, 0.99, 1.01) for output in outputs)


def flipped(executable: Executable, batch: Batch) -> tuple[Tensor, ...]:
    """The classes in the wrong order."""
    return tuple(output[..., ::-1].copy() for output in executable(*batch.values()))


@dataclass(frozen=True, slots=True)
class PlantedExecutable:
    """The reference's executable behind a fault."""

    inner: Executable
    fault: Fault

    @property
    def shape(self) -> Shape:
        return self.inner.shape

    @property
    def least_rows(self) -> int:
        return self.inner.least_rows

    @property
    def input_names(self) -> tuple[str, ...]:
        return self.inner.input_names

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.fault(self.inner, dict(zip(self.input_names, inputs, strict=True)))


@dataclass(slots=True)
class PlantedBackend:
    """Eager float32, whatever precision it says it has."""

    inner: TorchBackend
    precision: str
    fault: Fault

    @property
    def facts(self) -> BackendFacts:
        facts = self.inner.facts
        return replace(
            facts, kind="planted", precision=self.precision, compiles_per_shape=True, is_reference=False
        )

    def list_cores(self) -> tuple[Core, ...]:
        return self.inner.list_cores()

    def memory_per_worker_bytes(self, model: Model) -> int:
        return self.inner.memory_per_worker_bytes(model)

    def compile_needs(self, model: Model) -> None:
        return None

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        (folder / "shape").write_text(f"{shape} {self.precision} {self.fault.__name__}")

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> PlantedExecutable:
        assert (folder / "shape").read_text().startswith(f"{shape} {self.precision}")
        return PlantedExecutable(self.inner.load(Path("shared"), shape, request), self.fault)


def plant(monkeypatch, *, bfloat16: Fault = none, float32: Fault = none) -> None:
    """Every backend that is opened from now on has these faults; `auto` means bfloat16."""

    def open_planted(spec: JobSpec, *, elsewhere: bool = False) -> PlantedBackend:
        wished = spec.backend.precision
        precision = "bfloat16" if wished == "auto" else wished
        eager = spec.backend.model_copy(update={"precision": "float32"})
        fault = bfloat16 if precision == "bfloat16" else float32
        return PlantedBackend(TorchBackend(eager, spec.model), precision, fault)

    for module in (prepare, runner):
        monkeypatch.setattr(module, "open_backend", open_planted)
