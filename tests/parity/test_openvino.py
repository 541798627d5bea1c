"""The cpu backend over every architecture of the parity tests: what the torch backend predicts.

That one is held against transformers by the tests beside this one.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.backends import has_openvino
from batchneuron.backends.openvino_cpu import OpenVinoBackend
from batchneuron.run import run_job
from tests import tiny
from tests.faults.harness import read_rows
from tests.parity import (
    test_architectures,
    test_fill_mask,
    test_image_classification,
    test_token_classification,
    test_zero_shot_classification,
)
from tests.parity.record_answers import build_model, make_pairs

# Not importorskip: importing it by itself reports the import to its maker.
pytestmark = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")

TEXTS = tiny.make_texts(21, longest=20)
SHAPES = "shapes={batch_size: 4, sequence_length: [8, 16, 48]}"


@pytest.fixture(autouse=True)
def _convert_here(monkeypatch):
    """A process for each conversion would spend its time on importing torch."""
    monkeypatch.setattr(OpenVinoBackend, "compile_needs", lambda *_: None)


def require_same(make_spec, tmp_path, rows, *overrides):
    """The same job on both backends: names equal, numbers to 1e-4 of the largest."""
    pq.write_table(rows, tmp_path / "rows.parquet")
    made = {}
    for kind in ("cpu", "torch"):
        run_job(
            make_spec(
                f"input.path='{tmp_path / 'rows.parquet'}'",
                "input.keep=[]",
                "backend.precision=float32",
                "backend.parity_rows=0",
                *overrides,
                f"backend.kind={kind}",
                f"output.path='{tmp_path / kind}'",
            )
        )
        made[kind] = read_rows(tmp_path / kind).to_pylist()
    assert len(made["cpu"]) == rows.num_rows
    require_near(made["cpu"], made["torch"])


def require_near(made, expected):
    if isinstance(expected, dict):
        assert made.keys() == expected.keys()
        for key in expected:
            require_near(made[key], expected[key])
    elif isinstance(expected, list) and expected and isinstance(expected[0], float):
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4 * scale)
    elif isinstance(expected, list):
        assert len(made) == len(expected)
        for one, other in zip(made, expected, strict=True):
            require_near(one, other)
    elif isinstance(expected, float):
        assert made == pytest.approx(expected, abs=1e-4)
    else:
        assert made == expected


@pytest.mark.parametrize("kind", test_architectures.ARCHITECTURES)
def test_scores(kind, make_spec, tmp_path, monkeypatch):
    model = test_architectures.save_model(tmp_path / "model", kind, monkeypatch)

    require_same(make_spec, tmp_path, pa.table({"text": TEXTS}), f"model.id='{model}'", SHAPES)


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("modernbert", "last"), ("mpnet", "none")])
def test_embeddings(kind, pooling, make_spec, tmp_path, monkeypatch):
    model = test_architectures.save_model(tmp_path / "model", kind, monkeypatch)
    task = ("task=feature-extraction", "options.normalize=true", f"options.pooling={pooling}")

    require_same(make_spec, tmp_path, pa.table({"text": TEXTS}), f"model.id='{model}'", SHAPES, *task)


@pytest.mark.parametrize("kind", ["distilbert", "deberta-v2"])
def test_masks(kind, make_spec, tmp_path, monkeypatch):
    model = test_fill_mask.save_filler(tmp_path / "model", kind, monkeypatch)
    rows = pa.table({"text": [f"{text} [MASK]" for text in TEXTS]})

    require_same(make_spec, tmp_path, rows, f"model.id='{model}'", SHAPES, "task=fill-mask")


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_entities(kind, make_spec, tmp_path, monkeypatch):
    model = test_token_classification.save_model(tmp_path / "model", kind, monkeypatch)
    rows = pa.table({"text": TEXTS})

    require_same(make_spec, tmp_path, rows, f"model.id='{model}'", SHAPES, "task=token-classification")


def test_labels_of_one_s_own(make_spec, tmp_path, monkeypatch):
    model = test_zero_shot_classification.save_judge(tmp_path / "model", "bert", monkeypatch)
    options = ("task=zero-shot-classification", "options.candidate_labels=[alpha, beta]")

    require_same(make_spec, tmp_path, pa.table({"text": TEXTS}), f"model.id='{model}'", SHAPES, *options)


def test_answers(make_spec, tmp_path):
    build_model(tmp_path / "model", "bert")
    task = ("task=question-answering", "input.columns={question: question, context: context}")
    shapes = f"shapes={json.dumps({'batch_size': 4, 'sequence_length': [16, 48]})}"

    rows = pa.Table.from_pylist(make_pairs()[:12])
    require_same(make_spec, tmp_path, rows, f"model.id='{tmp_path / 'model'}'", shapes, *task)


@pytest.mark.parametrize("kind", test_image_classification.ARCHITECTURES)
def test_images(kind, make_spec, tmp_path):
    model = test_image_classification.save_model(tmp_path / "model", kind)
    images = [test_image_classification.encode(test_image_classification.paint(31, 47, n)) for n in range(5)]
    task = ("task=image-classification", "input.columns={image: image}", "shapes={batch_size: 2}")

    require_same(make_spec, tmp_path, pa.table({"image": images}), f"model.id='{model}'", *task)
