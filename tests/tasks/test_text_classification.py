"""text-classification: functions, ranks and schemas, against answers worked out by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batchneuron.errors import ModelError
from batchneuron.model import Model, resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages.items import OutputBatch, Outputs, TaskItems
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import open_task
from batchneuron.tasks.labels import choose_function
from batchneuron.tasks.text_classification import Options, TextEncoder
from tests.backends.arithmetic import make_items

LABELS = {"id2label": {"0": "bad", "1": "fair", "2": "good"}}
LOGITS = [[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]


def make_model(config=LABELS):
    return Model("m", Path("m"), None, "0", config, False, None)


def make_task(config=LABELS, **options):
    return open_task("text-classification", options, make_model(config))


def decode(task, scores, rows=None, lengths=None):
    """The task's columns for these scores, one item each, or as `rows` and `lengths` say."""
    scores = np.array(scores, np.float32)
    items = make_items([[1] * length for length in lengths or [1] * len(scores)], rows)
    batches = (OutputBatch(np.arange(len(scores)), (scores,)),)
    count = len(set(rows)) if rows else len(scores)
    decoded = task.decode(items, count, Outputs(len(scores), batches))
    assert decoded.columns.schema == task.schema
    assert decoded.columns.num_rows == count
    return decoded.columns


def head(task, logits):
    model = SimpleNamespace(forward=None)
    (scores,) = task.head(lambda **inputs: SimpleNamespace(logits=torch.tensor(logits)), {"input_ids": model})
    return scores


def test_softmax():
    scores = head(make_task(), LOGITS)

    expected = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    assert np.allclose(scores, expected, atol=1e-7)


def test_sigmoid():
    scores = head(make_task(LABELS | {"problem_type": "multi_label_classification"}), LOGITS)

    assert np.allclose(scores, 1 / (1 + np.exp(-np.array(LOGITS))), atol=1e-7)


def test_none():
    assert head(make_task(function_to_apply="none"), LOGITS).tolist() == LOGITS


def test_scores_are_single_precision_whatever_the_model_computes_in():
    task = make_task()
    logits = torch.tensor(LOGITS, dtype=torch.bfloat16)
    (scores,) = task.head(lambda **inputs: SimpleNamespace(logits=logits), {})

    assert scores.dtype == torch.float32


@pytest.mark.parametrize(
    ("config", "wished", "function"),
    [
        (LABELS, "auto", "softmax"),
        (LABELS | {"problem_type": "single_label_classification"}, "auto", "softmax"),
        (LABELS | {"problem_type": "multi_label_classification"}, "auto", "sigmoid"),
        (LABELS | {"problem_type": "regression"}, "auto", "none"),
        ({"id2label": {"0": "score"}}, "auto", "sigmoid"),
        ({"id2label": {"0": "score"}, "problem_type": "regression"}, "auto", "none"),
        ({}, "auto", "softmax"),
        (LABELS | {"problem_type": "regression"}, "softmax", "softmax"),
        (LABELS, "sigmoid", "sigmoid"),
        (LABELS, "none", "none"),
    ],
)
def test_the_function_follows_the_model_unless_it_is_named(config, wished, function):
    assert choose_function(make_model(config), wished) == function


def test_the_likeliest_label():
    columns = decode(make_task(), [[0.1, 0.7, 0.2], [0.6, 0.3, 0.1]])

    assert columns.schema == pa.schema([("label", pa.string()), ("score", pa.float32())])
    assert columns["label"].to_pylist() == ["fair", "bad"]
    assert columns["score"].to_pylist() == pytest.approx([0.7, 0.6])


@pytest.mark.parametrize(("top_k", "count"), [(2, 2), (3, 3), (5, 3), ("all", 3)])
def test_the_k_likeliest_in_order(top_k, count):
    columns = decode(make_task(top_k=top_k), [[0.1, 0.7, 0.2], [0.5, 0.125, 0.375]])

    ranks = [["fair", "good", "bad"], ["bad", "good", "fair"]]
    labels = columns["labels"].to_pylist()
    assert [[one["label"] for one in row] for row in labels] == [rank[:count] for rank in ranks]
    assert [one["score"] for one in labels[1]] == [0.5, 0.375, 0.125][:count]
    struct = pa.struct([("label", pa.string()), ("score", pa.float32())])
    assert columns.schema.field("labels").type == pa.list_(struct)


def test_all_of_one_class_is_still_a_list():
    columns = decode(make_task({"id2label": {"0": "score"}}, top_k="all"), [[0.25], [-3.0]])

    assert columns["labels"].to_pylist() == [
        [{"label": "score", "score": 0.25}],
        [{"label": "score", "score": -3.0}],
    ]


def test_equal_scores_stand_in_the_order_of_the_classes():
    columns = decode(make_task(top_k="all"), [[0.25, 0.5, 0.25], [0.2, 0.2, 0.2]])

    assert [[one["label"] for one in row] for row in columns["labels"].to_pylist()] == [
        ["fair", "bad", "good"],
        ["bad", "fair", "good"],
    ]
    assert decode(make_task(), [[0.4, 0.4, 0.2]])["label"].to_pylist() == ["bad"]


def test_many_equal_scores_stand_in_the_order_of_the_classes():
    names = [f"class {i}" for i in range(300)]
    task = make_task({"id2label": {str(i): name for i, name in enumerate(names)}}, top_k="all")
    scores = np.zeros(300, np.float32)
    scores[::7] = 0.5

    (row,) = decode(task, [scores])["labels"].to_pylist()

    assert [one["label"] for one in row] == [*names[::7], *(name for i, name in enumerate(names) if i % 7)]


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3), min_size=1, max_size=9)
)
def test_the_best_of_all_is_the_one_label(scores):
    every = decode(make_task(top_k="all"), scores)["labels"].to_pylist()
    one = decode(make_task(), scores)

    names = ("bad", "fair", "good")
    for row, given_scores in zip(every, scores, strict=True):
        expected = sorted(zip(given_scores, names, strict=True), key=lambda pair: -pair[0])
        assert [(best["score"], best["label"]) for best in row] == expected
    assert one["label"].to_pylist() == [row[0]["label"] for row in every]
    assert one["score"].to_pylist() == [row[0]["score"] for row in every]


def test_a_split_row_is_the_mean_of_its_windows_weighted_by_tokens():
    scores = [[0.75, 0.25, 0.0], [0.0, 0.5, 0.5], [0.125, 0.125, 0.75]]

    columns = decode(make_task(top_k="all"), scores, rows=[0, 0, 1], lengths=[1, 3, 9])

    (first, second) = columns["labels"].to_pylist()
    assert {one["label"]: one["score"] for one in first} == {"fair": 0.4375, "good": 0.375, "bad": 0.1875}
    assert second[0] == {"label": "good", "score": 0.75}


def test_a_model_that_names_another_number_of_classes_is_refused():
    with pytest.raises(ModelError, match="scores 4 classes and names 3"):
        decode(make_task(), [[0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize("top_k", [0, -1, "some"])
def test_a_senseless_k_is_refused(top_k):
    with pytest.raises(ValidationError):
        Options.model_validate({"top_k": top_k})


def test_the_encoder_hands_on_texts_and_pairs():
    seen = []
    tokenizer = SimpleNamespace(
        model_limit_tokens=48,
        encode=lambda texts, pairs, limit: (
            seen.append((texts, pairs, limit)) or TaskItems(make_items([[1]]), np.zeros(1, np.bool_))
        ),
    )
    encoder, limit = TextEncoder(tokenizer), Limit(8, "truncate")

    encoder.encode(pa.table({"text": ["a", "b"]}), limit)
    encoder.encode(pa.table({"text": ["a"], "text_pair": ["c"]}), limit)

    assert encoder.model_limit_tokens == 48
    assert seen == [(["a", "b"], None, limit), (["a"], ["c"], limit)]


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_an_empty_second_text_is_none(classifier, overflow):
    """In short rows and in long ones, as transformers has it."""
    encoder = open_task("text-classification", {}, resolve_model(ModelSpec(id=str(classifier)), ""))
    encode, limit = encoder.open_encoder().encode, Limit(8, overflow)
    texts = ["alpha", "alpha " * 9, "alpha " * 6]

    made = encode(pa.table({"text": texts, "text_pair": [""] * 3}), limit)

    wanted = encode(pa.table({"text": texts}), limit)
    for name, ragged in wanted.items.tensors.items():
        assert made.items.tensors[name].values.tolist() == ragged.values.tolist(), name
    assert made.items.rows.tolist() == wanted.items.rows.tolist()
    assert made.rejections == wanted.rejections
