"""The workloads, and who takes part in each; the first variant's answers are what others' are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corpora import LABELS
from environments import INTEL, NEWEST
from models import MINILM_MAX_TOKENS


@dataclass(frozen=True)
class Variant:
    """One way to do a workload."""

    name: str
    engine: str
    dtype: str = "float32"
    environment: str = NEWEST
    backend: str = "torch"


@dataclass(frozen=True)
class Workload:
    """A task over a corpus with a model."""

    name: str
    task: str
    corpus: str
    model: str
    rows: int
    variants: tuple[Variant, ...]
    columns: Mapping[str, str] = field(default_factory=lambda: {"text": "text"})
    options: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = MINILM_MAX_TOKENS
    peer_batch_rows: int = 32
    """What did best of 1, 32, 64 and 128 for the peers."""
    our_shards: int = 2
    """For batchneuron's two workers."""
    gflop_per_token: float | None = None
    """Of the model's linear layers, for the share of the machine's limit."""


_OURS = (
    Variant("batchneuron float32", "batchneuron"),
    Variant("batchneuron bfloat16", "batchneuron", "bfloat16"),
)
_PIPELINE = Variant("transformers pipeline float32", "pipeline")
_PIPELINE_BF16 = Variant("transformers pipeline bfloat16", "pipeline", "bfloat16")
_OPTIMUM = Variant("optimum-intel", "optimum", environment=INTEL)
_EMBEDDERS = (
    Variant("sentence-transformers float32", "sentence-transformers"),
    Variant("sentence-transformers bfloat16", "sentence-transformers", "bfloat16"),
    Variant("sentence-transformers openvino", "sentence-transformers", environment=INTEL, backend="openvino"),
    Variant("Ray Data, 2 actors, bfloat16", "ray", "bfloat16"),
    Variant("datasets.map, 2 processes, bfloat16", "map", "bfloat16"),
    _PIPELINE,
    *_OURS,
)
_ALL = (
    Workload(
        "long",
        "feature-extraction",
        "long",
        "minilm",
        3072,
        _EMBEDDERS,
        our_shards=6,
        gflop_per_token=0.02123,
    ),
    Workload(
        "short",
        "feature-extraction",
        "short",
        "minilm",
        8192,
        _EMBEDDERS,
        our_shards=6,
        gflop_per_token=0.02123,
        peer_batch_rows=128,
    ),
    Workload(
        "classify",
        "text-classification",
        "long",
        "bert-base",
        192,
        (_PIPELINE, _PIPELINE_BF16, _OPTIMUM, *_OURS),
        gflop_per_token=0.1699,
    ),
    Workload("tag", "token-classification", "long", "bert-tokens", 192, (_PIPELINE, _OPTIMUM, *_OURS)),
    Workload(
        "zero-shot",
        "zero-shot-classification",
        "long",
        "nli",
        192,
        (_PIPELINE, *_OURS),
        options={"candidate_labels": list(LABELS)},
    ),
    Workload(
        "answer",
        "question-answering",
        "questions",
        "qa",
        512,
        (Variant("transformers pipeline 4.57 float32", "pipeline", environment=INTEL), *_OURS),
        columns={"question": "question", "context": "context"},
        max_tokens=384,
    ),
    Workload(
        "look",
        "image-classification",
        "images",
        "vit",
        128,
        (_PIPELINE, _OPTIMUM, *_OURS),
        columns={"image": "image"},
        max_tokens=None,
    ),
)
WORKLOADS = {workload.name: workload for workload in _ALL}
