"""Models of inference of ten architectures, random weights: a job labels texts as the pipeline does."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import SpecError
from batchneuron.run import run_job
from batchneuron.spec.parse import parse_spec
from batchneuron.tasks import OPTIONS
from tests import tiny
from tests.faults.harness import read_rows
from tests.parity.test_architectures import ARCHITECTURES, save_model

ROWS = 14
LABELS = ["alpha", "beta gamma", "kappa", "mu 7"]
# As models on the hub have them: two classes or three, entailment first, in the middle or last.
CLASSES = ["contradiction", "neutral", "entailment"]


def save_judge(folder, kind, monkeypatch, classes=CLASSES):
    """A tiny model of inference of that architecture, and its tokenizer."""
    return save_model(folder, kind, monkeypatch, labels=list(classes))


def run(tmp_path, model, rows, *overrides):
    """What a job makes of these rows: a table with `labels`, `scores`, `_truncated` and `_error`."""
    pq.write_table(rows, tmp_path / "rows.parquet")
    columns = ", ".join(f"{name}: {name}" for name in rows.column_names)
    text = (
        "task: zero-shot-classification\n"
        f"model: {{id: '{model}'}}\n"
        f"input: {{path: '{tmp_path / 'rows.parquet'}', columns: {{{columns}}}}}\n"
        "shapes: {batch_size: 8, sequence_length: [16, 32, 48]}\n"
        "backend: {workers: 0, kind: torch}\n"
        f"output: {{path: '{tmp_path / 'out'}', shard_rows: 6}}\n"
    )
    run_job(parse_spec(text, "judge.yaml", overrides, OPTIONS))
    return read_rows(tmp_path / "out")


def set_options(options):
    return [f"options.{key}={value!r}".replace("True", "true") for key, value in options.items()]


def judge_all(model, texts, options):
    """Labels and scores of each text by itself, from the pipeline; `options` are one for all, or each text's.

    Equal scores are put in the order of the labels; the pipeline has them the other way round.
    """
    from transformers import pipeline

    judge = pipeline("zero-shot-classification", model=str(model), device=-1)
    ranked = []
    for text, own in zip(
        texts, options if isinstance(options, list) else [options] * len(texts), strict=True
    ):
        told = judge(text, **own)
        places = {label: place for place, label in enumerate(_list_labels(own["candidate_labels"]))}
        pairs = zip(told["scores"], told["labels"], strict=True)
        ranked.append(sorted(pairs, key=lambda pair: (-pair[0], places[pair[1]])))
    return ranked


def _list_labels(labels):
    return [label.strip() for label in labels.split(",")] if isinstance(labels, str) else labels


def require_same(made, expected):
    """The pipeline's labels of each row, and its scores within 1e-5."""
    assert made["labels"].to_pylist() == [[label for _, label in row] for row in expected]
    for scores, row in zip(made["scores"].to_pylist(), expected, strict=True):
        np.testing.assert_allclose(scores, [score for score, _ in row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_an_architecture_labels_texts_as_the_pipeline_does(kind, tmp_path, monkeypatch):
    model = save_judge(tmp_path / "model", kind, monkeypatch)
    texts = tiny.make_texts(ROWS, longest=20)

    made = run(tmp_path, model, pa.table({"text": texts}), *set_options({"candidate_labels": LABELS}))

    require_same(made, judge_all(model, texts, {"candidate_labels": LABELS}))
    assert len({tuple(labels) for labels in made["labels"].to_pylist()}) > 1


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield save_judge(tmp_path_factory.mktemp("bert"), "bert", monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        {"candidate_labels": "alpha, beta ,kappa,, "},
        {"candidate_labels": ["alpha"]},
        {"candidate_labels": ["alpha", "beta", "alpha"], "multi_label": True},
        {"candidate_labels": LABELS, "multi_label": True},
        {"candidate_labels": LABELS, "hypothesis_template": "gamma {} delta."},
        {"candidate_labels": ["🙂", "שלום", ""], "hypothesis_template": "{} theta"},
    ],
    ids=str,
)
def test_options(options, bert, tmp_path):
    texts = tiny.make_texts(8, longest=20)

    made = run(tmp_path, bert, pa.table({"text": texts}), *set_options(options))

    require_same(made, judge_all(bert, texts, options))


@pytest.mark.parametrize(
    "classes", [["entailment", "not_entailment"], ["no", "Entailment", "perhaps"], ["ENTAIL", "so so", "no"]]
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_classes_in_another_order(classes, multi_label, tmp_path, monkeypatch):
    model = save_judge(tmp_path / "model", "distilbert", monkeypatch, classes)
    texts = tiny.make_texts(6)
    options = {"candidate_labels": LABELS, "multi_label": multi_label}

    made = run(tmp_path, model, pa.table({"text": texts}), *set_options(options))

    require_same(made, judge_all(model, texts, options))


def test_labels_of_each_row(bert, tmp_path):
    texts = tiny.make_texts(8, longest=20)
    labels = [LABELS[: 1 + row % 4] for row in range(8)]
    expected = judge_all(bert, texts, [{"candidate_labels": own} for own in labels])

    as_lists = run(tmp_path, bert, pa.table({"text": texts, "candidate_labels": labels}))
    require_same(as_lists, expected)

    (tmp_path / "texts").mkdir()
    joined = [",".join(own) for own in labels]
    require_same(
        run(tmp_path / "texts", bert, pa.table({"text": texts, "candidate_labels": joined})), expected
    )


def test_a_text_that_is_truncated_keeps_its_labels_whole(bert, tmp_path):
    words = tiny.make_texts(1, longest=1)[0]
    texts = [f"{words} beta", "gamma " * 90, "delta mu " * 40]

    made = run(
        tmp_path,
        bert,
        pa.table({"text": texts}),
        "shapes.overflow=truncate",
        *set_options({"candidate_labels": LABELS}),
    )

    # The pipeline cuts at the tokenizer's own limit, which is 48 here.
    require_same(made, judge_all(bert, texts, {"candidate_labels": LABELS}))
    assert made["_truncated"].to_pylist() == [False, True, True]


def test_odd_texts(bert, tmp_path):
    texts = [" ", "🙂 👩‍👩‍👧", "שלום עולם", "a\0b \0", "[SEP] [MASK] [PAD]"]

    made = run(tmp_path, bert, pa.table({"text": texts}), *set_options({"candidate_labels": LABELS}))

    require_same(made, judge_all(bert, texts, {"candidate_labels": LABELS}))


def test_rows_without_a_prediction_say_why(bert, tmp_path):
    rows = pa.table({"text": ["alpha", None, "beta", "mu"], "candidate_labels": [["a"], ["a"], [], None]})

    made = run(tmp_path, bert, rows, "errors.max_rejected=3")

    assert made["labels"].to_pylist() == [["a"], None, None, None]
    errors = made["_error"].to_pylist()
    assert [error and error["code"] for error in errors] == [None, "null_input", "null_input", "null_input"]


def test_a_job_without_labels_ends_before_its_first_row(bert, tmp_path):
    with pytest.raises(SpecError, match="there are no labels"):
        run(tmp_path, bert, pa.table({"text": ["alpha"]}))

    assert not list(tmp_path.glob("out/data/*"))


def test_split_averages_the_logits_of_windows(bert, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    text = " ".join(["alpha", "beta", "gamma", "delta", "mu"] * 30)
    options = {"candidate_labels": LABELS, "hypothesis_template": "{}"}

    made = run(tmp_path, bert, pa.table({"text": [text]}), "shapes.overflow=split", *set_options(options))

    tokenizer, model = (
        AutoTokenizer.from_pretrained(bert),
        AutoModelForSequenceClassification.from_pretrained(bert),
    )
    logits = []
    for label in LABELS:
        windows = tokenizer(
            text, label, truncation="only_first", max_length=48, return_overflowing_tokens=True
        )["input_ids"]
        pairs = [tokenizer.decode(ids[1:-1]).split(" [SEP] ") for ids in windows]
        with torch.inference_mode():
            told = torch.cat(
                [model.eval()(**tokenizer(*pair, return_tensors="pt")).logits[:, 2] for pair in pairs]
            )
        logits.append(np.average(told.numpy(), weights=[len(ids) for ids in windows]))
    scores = np.exp(logits) / np.exp(logits).sum()
    order = np.argsort(-scores, kind="stable")
    assert made["labels"].to_pylist() == [[LABELS[place] for place in order]]
    np.testing.assert_allclose(made["scores"].to_pylist()[0], scores[order], rtol=0, atol=1e-5)
