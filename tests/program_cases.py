"""The programs of all tasks over the small models of the parity tests: what a compiler is shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from batchneuron.backends.backend import CompileRequest
from batchneuron.model import resolve_model
from batchneuron.planning.shapes import Shape
from batchneuron.spec.sections import ModelSpec
from batchneuron.tasks import KINDS
from tests.parity import test_architectures, test_image_classification, test_zero_shot_classification

IMAGES = "image-classification"
TEXT_SHAPES = (Shape(8, 16), Shape(8, 32), Shape(8, 48))
IMAGE_SHAPES = (Shape(1, 1), Shape(4, 1))
_LABELS = {
    "question-answering": ["start", "end"],
    "token-classification": ["O", "B-PER", "I-PER"],
    "zero-shot-classification": test_zero_shot_classification.CLASSES,
}


@dataclass(frozen=True)
class Case:
    """A task's program over one small model."""

    task: str
    architecture: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes that the parity tests run it in."""
        return IMAGE_SHAPES if self.task == IMAGES else TEXT_SHAPES

    def __str__(self) -> str:
        given = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.task} {self.architecture} {given}".strip()


# Heads that differ in what they compute on the device; one architecture stands for all.
_HEADS = [
    Case("feature-extraction", "bert", {"pooling": pooling, "normalize": pooling == "mean"})
    for pooling in ("none", "mean", "max", "last")
] + [
    Case("fill-mask", "bert", {"top_k": 12}),
    Case("fill-mask", "bert", {"targets": ["beta", "mu"]}),
    Case("text-classification", "bert", {"function_to_apply": "sigmoid"}),
    Case("image-classification", "vit", {"function_to_apply": "none"}),
]


def list_cases() -> Iterator[Case]:
    """Every task over every architecture of its parity tests, and every head over one."""
    for task in KINDS:
        known = test_image_classification if task == IMAGES else test_architectures
        yield from (Case(task, architecture) for architecture in known.ARCHITECTURES)
    yield from _HEADS


def save_model(folder: Path, case: Case) -> Path:
    """The case's model with random weights, as the parity tests have it, and its tokenizer or processor."""
    import torch
    import transformers

    if case.task == IMAGES:
        return test_image_classification.save_model(folder, case.architecture)
    labels = _LABELS.get(case.task, test_architectures.LABELS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        test_architectures.save_model(folder, case.architecture, monkeypatch, labels)
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(11)
    loader = getattr(transformers, KINDS[case.task].auto_model)
    loader.from_config(config).eval().save_pretrained(folder)
    return folder


def make_request(folder: Path, case: Case) -> CompileRequest:
    """What a backend is asked to compile."""
    return CompileRequest(case.task, case.options, resolve_model(ModelSpec(id=str(folder)), ""))
