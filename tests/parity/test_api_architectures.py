"""`pipeline()` over every architecture of the parity tests: the answers of transformers' pipeline."""

from __future__ import annotations

import pytest
import transformers

from batchneuron import pipeline
from tests import tiny
from tests.parity import (
    test_architectures,
    test_fill_mask,
    test_image_classification,
    test_token_classification,
    test_zero_shot_classification,
)

TEXTS = ["beta", "é 東京 🦜", *tiny.make_texts(5, longest=12)]
TEXT_TASKS = {
    "text-classification": (test_architectures.save_model, TEXTS, {"top_k": 2}),
    "token-classification": (test_token_classification.save_model, TEXTS, {"aggregation_strategy": "simple"}),
    "fill-mask": (test_fill_mask.save_filler, [f"alpha [MASK] {text}" for text in TEXTS], {"top_k": 3}),
    "zero-shot-classification": (
        test_zero_shot_classification.save_judge,
        TEXTS,
        {"candidate_labels": ["alpha", "beta gamma"]},
    ),
}


def require_same(made, expected):
    """Equal to 1e-5 in numbers, and in all else."""
    if isinstance(expected, dict):
        assert made.keys() == expected.keys()
        for key in expected:
            require_same(made[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(made) == len(expected)
        for one, other in zip(made, expected, strict=True):
            require_same(one, other)
    elif isinstance(expected, str) or expected is None:
        assert made == expected
    else:
        assert float(made) == pytest.approx(float(expected), abs=1e-5)


def by_label(judged):
    """Scores by label: equal ones, as MobileBERT's huge logits give, have another order in transformers."""
    return [dict(zip(one["labels"], one["scores"], strict=True)) for one in judged]


@pytest.mark.parametrize("kind", test_architectures.ARCHITECTURES)
@pytest.mark.parametrize("task", TEXT_TASKS)
def test_texts(task, kind, tmp_path, monkeypatch):
    save, texts, options = TEXT_TASKS[task]
    model = str(save(tmp_path / "model", kind, monkeypatch))
    shapes = {"batch_size": 3, "sequence_length": 48}

    made = pipeline(task, model=model, input_shapes=shapes)(texts, **options)

    expected = transformers.pipeline(task, model=model, device=-1)(texts, **options)
    if task == "zero-shot-classification":
        made, expected = by_label(made), by_label(expected)
    require_same(made, expected)


@pytest.mark.parametrize("kind", test_image_classification.ARCHITECTURES)
def test_images(kind, tmp_path):
    test_image_classification.save_model(tmp_path, kind)
    images = [test_image_classification.paint(31, 47, seed) for seed in range(5)]

    made = pipeline("image-classification", model=str(tmp_path), input_shapes={"batch_size": 2})(images)

    require_same(made, transformers.pipeline("image-classification", model=str(tmp_path), device=-1)(images))
