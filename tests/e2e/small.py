"""Small stand-ins for what a spec in `jobs/` names: a model of its task, and rows with its columns."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.spec.sections import JobSpec
from batchneuron.spec.template import parse_template
from batchneuron.stages.columns import Columns
from batchneuron.tasks import find_kind
from tests import tiny
from tests.parity.test_image_classification import encode, paint
from tests.parity.test_image_classification import save_model as save_image_model

ROWS = 60
POSITIONS = 512  # what the models that the specs name take, or more than their shapes ask for
LABELS = {
    "text-classification": ["negative", "neutral", "positive"],
    "zero-shot-classification": ["contradiction", "neutral", "entailment"],
    "token-classification": ["O", "B-PER", "I-PER"],
}


def save_small_model(task: str, folder: Path) -> Path:
    """A model of random weights that the task takes, with a tokenizer or an image processor."""
    import torch
    import transformers

    folder.mkdir()
    if task == "image-classification":
        return save_image_model(folder, "vit")
    labels = LABELS.get(task)
    named: dict[str, Any] = {}
    if labels:
        named = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    config = transformers.BertConfig(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
        **named,
    )
    torch.manual_seed(0)
    getattr(transformers, find_kind(task).auto_model).from_config(config).eval().save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "MAX_POSITIONS", POSITIONS)
        tiny.save_tokenizer(folder)
    return folder


def make_rows(spec: JobSpec) -> pa.Table:
    """Rows with every column that the spec names: numbers in an id, images where it wants them, else text."""
    kind = find_kind(spec.task)
    named = spec.input.columns or {name: name for name in kind.inputs}
    raw = {parse_template(named[name]).columns[0]: name for name in kind.raw_inputs if name in named}
    read = [column for template in named.values() for column in parse_template(template).columns]
    kept = spec.input.keep or []
    carried = list(kept.values()) if isinstance(kept, dict) else list(kept)
    return pa.table({name: _make_column(name, raw.get(name)) for name in dict.fromkeys([*carried, *read])})


def _make_column(name: str, raw_input: str | None) -> pa.Array:
    if raw_input == "image":
        return pa.array([encode(paint(20 + row, 30, row), "PNG") for row in range(ROWS)], pa.binary())
    if raw_input == "candidate_labels":
        return pa.array([["alpha", "beta"]] * ROWS, pa.list_(pa.string()))
    if name.endswith("id"):
        return pa.array(range(1_000, 1_000 + ROWS), pa.int64())
    return pa.array(tiny.make_texts(ROWS, seed=len(name), longest=12), pa.string())


def write_like(pattern: str, rows: pa.Table, folder: Path) -> Path:
    """The rows in two files of the format that a glob or a folder's name tells, Parquet if it tells none."""
    folder.mkdir()
    halves = [rows.slice(0, ROWS // 2), rows.slice(ROWS // 2)]
    for number, half in enumerate(halves):
        if ".jsonl" not in pattern:
            pq.write_table(half, folder / f"{number}.parquet")
            continue
        lines = "".join(json.dumps(row) + "\n" for row in half.to_pylist()).encode()
        zipped = pattern.endswith(".gz")
        path = folder / f"{number}.jsonl{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(lines) if zipped else lines)
    return folder


def expected_columns(columns: Columns, predictions: pa.Schema) -> list[str]:
    """The columns of the job's output, in order."""
    return ["_row", *columns.keep, *predictions.names, "_truncated", "_error"]
