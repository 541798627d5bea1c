"""Masked language models of ten architectures, random weights: a job fills masks as the pipeline does."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.run import run_job
from batchneuron.spec.parse import parse_spec
from batchneuron.tasks import OPTIONS
from tests import tiny
from tests.faults.harness import read_rows
from tests.parity.test_architectures import ARCHITECTURES, save_model

ROWS = 24


def save_filler(folder, kind, monkeypatch):
    """A tiny masked language model of that architecture, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = AutoConfig.from_pretrained(save_model(folder, kind, monkeypatch))
    torch.manual_seed(11)
    AutoModelForMaskedLM.from_config(config).eval().save_pretrained(folder)
    return folder


def make_masked_texts(rows=ROWS, longest=20):
    """Texts with one to three masks, at the beginning, the end, side by side."""
    random.seed(3)
    texts = []
    for number, text in enumerate(tiny.make_texts(rows, longest=longest)):
        words = text.split()
        for _ in range(1 + number % 3):
            words.insert(random.randint(0, len(words)), "[MASK]")
        texts.append(" ".join(words) + "é, 7.5"[: number % 7])
    return texts


def run(tmp_path, model, texts, *overrides):
    """What a job makes of these texts: a table with `fills`, `_truncated` and `_error`."""
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), tmp_path / "rows.parquet")
    text = (
        "task: fill-mask\n"
        f"model: {{id: '{model}'}}\n"
        f"input: {{path: '{tmp_path / 'rows.parquet'}'}}\n"
        "shapes: {batch_size: 8, sequence_length: [16, 32, 48]}\n"
        "backend: {workers: 0, kind: torch}\n"
        f"output: {{path: '{tmp_path / 'out'}', shard_rows: 10}}\n"
    )
    run_job(parse_spec(text, "fill.yaml", overrides, OPTIONS))
    return read_rows(tmp_path / "out")


def require_same(made, expected):
    """The pipeline's fills for each row: tokens and texts alike, scores within 1e-5."""
    for row, wanted in zip(made, expected, strict=True):
        wanted = wanted if isinstance(wanted[0], list) else [wanted]
        for fills, likeliest in zip(row, wanted, strict=True):
            scores, known = ([one["score"] for one in every] for every in (fills, likeliest))
            np.testing.assert_allclose(scores, known, rtol=0, atol=1e-5)
            words = ("token", "token_str", "sequence")
            assert [[one[word] for word in words] for one in fills] == [
                [one[word] for word in words] for one in likeliest
            ]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_fills_masks_as_the_pipeline_does(kind, tmp_path, monkeypatch):
    from transformers import pipeline

    model, texts = save_filler(tmp_path / "model", kind, monkeypatch), make_masked_texts()

    made = run(tmp_path, model, texts)["fills"].to_pylist()

    fill = pipeline("fill-mask", model=str(model), device=-1)
    require_same(made, [fill(text) for text in texts])
    assert len({one["token"] for row in made for fills in row for one in fills}) > 10


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield save_filler(tmp_path_factory.mktemp("bert"), "bert", monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 1},
        {"top_k": 128},
        {"targets": ["beta"]},
        {"targets": ["gamma", "delta", "mu", "gamma"]},
        {"top_k": 2, "targets": ["gamma", "delta", "mu"]},
        {"targets": ["zulu", "beta", "Beta", "7", "[SEP]", "数"]},
        {"targets": ["", "kappa"]},
    ],
    ids=str,
)
def test_options(options, bert, tmp_path):
    from transformers import pipeline

    texts = make_masked_texts(9)

    made = run(tmp_path, bert, texts, *(f"options.{key}={value!r}" for key, value in options.items()))

    fill = pipeline("fill-mask", model=str(bert), device=-1)
    require_same(made["fills"].to_pylist(), [fill(text, **options) for text in texts])


def test_a_text_that_is_truncated(bert, tmp_path):
    from transformers import pipeline

    texts = [
        text + " theta" * extra
        for text, extra in zip(make_masked_texts(9, 6), [0, 90] * 4 + [60], strict=True)
    ]

    made = run(tmp_path, bert, texts, "shapes.overflow=truncate")

    fill = pipeline("fill-mask", model=str(bert), device=-1)
    cut = {"truncation": True, "max_length": 48}
    require_same(made["fills"].to_pylist(), [fill(text, tokenizer_kwargs=cut) for text in texts])
    assert made["_truncated"].to_pylist() == [False, True] * 4 + [True]


def test_odd_texts(bert, tmp_path):
    from transformers import pipeline

    texts = [
        "[MASK]",
        "[MASK][MASK]",
        "🙂 [MASK] 👩‍👩‍👧",
        "שלום [MASK] עולם",
        "a\0b [MASK] \0",
        "  \t[MASK]\n ",
        "alpha [PAD] [MASK] [PAD]",
        "[mask] [MASK] [UNK]",
    ]

    made = run(tmp_path, bert, texts)

    fill = pipeline("fill-mask", model=str(bert), device=-1)
    require_same(made["fills"].to_pylist(), [fill(text) for text in texts])


def test_rows_without_a_prediction_say_why(bert, tmp_path):
    texts = [None, "alpha", "beta [MASK]", "gamma " * 60 + "[MASK]"]

    made = run(tmp_path, bert, texts, "errors.max_rejected=3")

    assert made["fills"].is_null().to_pylist() == [True, True, False, True]
    errors = made["_error"].to_pylist()
    assert [error and error["code"] for error in errors] == ["null_input", "no_mask", None, "too_long"]


def test_split_gives_each_mask_the_prediction_of_its_window(bert, tmp_path):
    from transformers import pipeline

    words = ["alpha", "beta", "gamma", "delta", "mu"] * 30
    words[70] = "[MASK]"

    (fills,) = run(tmp_path, bert, [" ".join(words)], "shapes.overflow=split")["fills"].to_pylist()

    # 46 tokens beside the two special ones: 23 before the mask, and 22 behind it.
    fill = pipeline("fill-mask", model=str(bert), device=-1)
    alone = fill(" ".join(words[47:93]))
    assert [one["token"] for one in fills[0]] == [one["token"] for one in alone]
    np.testing.assert_allclose(
        [one["score"] for one in fills[0]], [one["score"] for one in alone], rtol=0, atol=1e-5
    )
    assert fills[0][0]["sequence"] == " ".join([*words[:70], alone[0]["token_str"], *words[71:]])
