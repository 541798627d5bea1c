"""Text classifiers of thirteen architectures, random weights: the job says what the pipeline says.

A batch of a job is padded and the pipeline's single text is not, so what this finds is an architecture
whose prediction depends on padding, or that needs inputs it is not given.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batchneuron
from batchneuron.run import run_job
from tests import tiny
from tests.faults.harness import read_rows

LABELS = ["bad", "fair", "good"]
ROWS = 40
TEXT_LENGTH = 20  # words; each is one token or two, and two special tokens

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
ARCHITECTURES = {
    "bert": SMALL,
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64},
    "roberta": {**SMALL, "type_vocab_size": 1},
    "xlm-roberta": {**SMALL, "type_vocab_size": 1},
    "albert": {**SMALL, "embedding_size": 16},
    "electra": {**SMALL, "embedding_size": 16},
    "mpnet": SMALL,
    "deberta-v2": {
        **SMALL,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "modernbert": {**SMALL, "local_attention": 8, "global_attn_every_n_layers": 2},
    "mobilebert": {
        **SMALL,
        "embedding_size": 32,
        "intra_bottleneck_size": 32,
        "true_hidden_size": 32,
        "num_feedforward_networks": 2,
    },
}
# These look types up among the words, so that a zero is a word. Not every task has each of them, and
# `make lowering`, which goes through ARCHITECTURES, takes half an hour without them.
TYPED_IN_WORDS = {
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 64, "embed_init_std": 0.4},
    "flaubert": {
        "emb_dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "max_position_embeddings": 64,
        "embed_init_std": 0.4,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
}
ALL = {**ARCHITECTURES, **TYPED_IN_WORDS}
# Tokenizers of these give no token_type_ids, and their models take none, or only zeros.
UNTYPED = {"distilbert", "roberta", "xlm-roberta", "mpnet", "modernbert", *TYPED_IN_WORDS}
# RoBERTa's family counts positions from the pad id, which is 1 there: <s>, <pad>, </s>, <unk>.
PAD_IS_ONE = {"roberta", "xlm-roberta", "mpnet"}


def save_model(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch, labels: list[str] = LABELS, **settings: Any
) -> Path:
    """A tiny classifier of that architecture with a tokenizer whose special tokens fit it."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    specials = list(tiny.SPECIALS)
    if kind in PAD_IS_ONE:
        specials = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    monkeypatch.setattr(tiny, "SPECIALS", specials)
    given = {
        "vocab_size": 128,
        "pad_token_id": specials.index("[PAD]"),
        "bos_token_id": specials.index("[CLS]"),
        "eos_token_id": specials.index("[SEP]"),
        "cls_token_id": specials.index("[CLS]"),
        "sep_token_id": specials.index("[SEP]"),
        "initializer_range": 0.4,
        "id2label": dict(enumerate(labels)),
        "label2id": {name: number for number, name in enumerate(labels)},
    }
    config = AutoConfig.for_model(kind, **{**given, **ALL[kind], **settings})
    torch.manual_seed(7)
    AutoModelForSequenceClassification.from_config(config).eval().save_pretrained(folder)
    tiny.save_tokenizer(folder)
    if kind in UNTYPED:
        set_tokenizer(folder, model_input_names=["input_ids", "attention_mask"])
    return folder


def set_tokenizer(folder: Path, **settings: Any) -> None:
    """Change what a saved tokenizer's configuration says."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def run_and_compare(make_spec, tmp_path: Path, model: Path, rows: pa.Table, **settings: Any) -> None:
    from transformers import pipeline

    pq.write_table(rows, tmp_path / "rows.parquet")
    columns = ", ".join(f"{name}: {name}" for name in rows.column_names)
    run_job(
        make_spec(
            f"model.id='{model}'",
            f"input.path='{tmp_path / 'rows.parquet'}'",
            f"input.columns={{{columns}}}",
            "shapes={batch_size: 8, sequence_length: [16, 32, 48]}",
        )
    )

    classify = pipeline("text-classification", model=str(model), device=-1)
    expected = [classify(row, **settings) for row in rows.to_pylist()]
    made = read_rows(tmp_path / "out")
    assert made["label"].to_pylist() == [one["label"] for one in expected]
    scores = [one["score"] for one in expected]
    np.testing.assert_allclose(made["score"].to_numpy(), scores, rtol=0, atol=1e-5)
    assert len(set(scores)) > ROWS // 2, "the model gives every text the same score: the test shows nothing"


@pytest.mark.parametrize("kind", ALL)
def test_an_architecture_predicts_in_padded_batches_what_it_predicts_alone(
    kind, make_spec, tmp_path, monkeypatch
):
    model = save_model(tmp_path / "model", kind, monkeypatch)
    rows = pa.table({"text": tiny.make_texts(ROWS, longest=TEXT_LENGTH)})

    run_and_compare(make_spec, tmp_path, model, rows)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "deberta-v2"])
def test_pairs_of_texts(kind, make_spec, tmp_path, monkeypatch):
    model = save_model(tmp_path / "model", kind, monkeypatch)
    rows = pa.table(
        {
            "text": tiny.make_texts(ROWS, longest=TEXT_LENGTH // 2),
            "text_pair": tiny.make_texts(ROWS, seed=1, longest=TEXT_LENGTH // 2),
        }
    )

    run_and_compare(make_spec, tmp_path, model, rows)


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (LABELS, {"problem_type": "multi_label_classification"}),
        (["score"], {"problem_type": "regression"}),
        (["score"], {}),
    ],
    ids=["multi-label", "regression", "one label"],
)
def test_what_turns_logits_into_scores_is_what_the_configuration_says(
    labels, settings, make_spec, tmp_path, monkeypatch
):
    model = save_model(tmp_path / "model", "bert", monkeypatch, labels, **settings)
    rows = pa.table({"text": tiny.make_texts(ROWS, longest=TEXT_LENGTH)})

    run_and_compare(make_spec, tmp_path, model, rows)


@pytest.mark.parametrize("columns", [["text"], ["text", "text_pair"]], ids=["texts", "pairs"])
def test_long_texts_are_cut_where_the_pipeline_cuts_them(columns, make_spec, tmp_path, monkeypatch):
    model = save_model(tmp_path / "model", "bert", monkeypatch)
    rows = pa.table({name: tiny.make_texts(ROWS, seed=len(name), longest=90) for name in columns})

    run_and_compare(make_spec, tmp_path, model, rows, truncation=True)

    assert 5 < sum(read_rows(tmp_path / "out")["_truncated"].to_pylist()) < ROWS


def test_types_that_a_tokenizer_gives_are_words_where_the_pipeline_makes_words_of_them(
    make_spec, tmp_path, monkeypatch
):
    model = save_model(tmp_path / "model", "gpt2", monkeypatch)
    set_tokenizer(model, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    rows = pa.table({"text": tiny.make_texts(ROWS, longest=TEXT_LENGTH)})

    run_and_compare(make_spec, tmp_path, model, rows)


SEP = tiny.SPECIALS.index("[SEP]")


@pytest.mark.parametrize(
    ("of_model", "of_tokenizer"),
    [(None, None), (None, "[SEP]"), (SEP, "[PAD]"), (SEP, None), (-1, "[PAD]")],
    ids=str,
)
def test_the_last_token_is_the_pipelines_whatever_the_padding_token(
    of_model, of_tokenizer, make_spec, tmp_path, monkeypatch
):
    """Texts end with [SEP], which counts unless the model takes it for padding."""
    model = save_model(tmp_path / "model", "gpt2", monkeypatch, pad_token_id=of_model)
    set_tokenizer(model, pad_token=of_tokenizer)
    rows = pa.table({"text": tiny.make_texts(ROWS, longest=TEXT_LENGTH)})

    run_and_compare(make_spec, tmp_path, model, rows)


def test_a_shape_beyond_the_positions_is_refused_and_the_longest_gives_the_pipelines_answer(
    tmp_path, monkeypatch
):
    from transformers import pipeline

    model = save_model(tmp_path / "model", "gpt2", monkeypatch, n_positions=20)
    text = " ".join(tiny.WORDS * 5)

    with pytest.raises(ValueError, match="sequence_length is 64, and the model takes 20 tokens"):
        batchneuron.pipeline("text-classification", model=str(model), sequence_length=64)
    classify = batchneuron.pipeline("text-classification", model=str(model), sequence_length=20)

    (made,) = classify(text, truncation=True)
    (expected,) = pipeline("text-classification", model=str(model))(text, truncation=True, max_length=20)
    assert made["score"] == pytest.approx(expected["score"], abs=1e-5)
