"""zero-shot-classification: pairs, labels and scores, against answers worked out by hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batchneuron.errors import ColumnMissing, ModelError, SpecError
from batchneuron.model import Model, resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages.items import OutputBatch, Outputs
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import open_task
from batchneuron.tasks.zero_shot_classification import Options, parse_labels, score_pairs
from tests.backends.arithmetic import make_items
from tests.tiny import SPECIALS, save_bert

CLASSES = ["contradiction", "neutral", "entailment"]
ALPHA, BETA, GAMMA, DELTA = range(len(SPECIALS), len(SPECIALS) + 4)
CLS, SEP = SPECIALS.index("[CLS]"), SPECIALS.index("[SEP]")


def make_task(classes=CLASSES, **options):
    config = {"label2id": {name: number for number, name in enumerate(classes)}}
    return open_task(
        "zero-shot-classification", options, Model("m", Path("m"), None, "0", config, False, None)
    )


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return resolve_model(ModelSpec(id=str(save_bert(tmp_path_factory.mktemp("judge"), labels=CLASSES))), "")


@pytest.fixture
def encode(judge):
    """The task's items for texts and, if they are given, labels of each."""

    def make(texts, labels=None, max_tokens=48, overflow="truncate", **options):
        options = {"hypothesis_template": "{}", **options}
        columns = {"text": pa.array(texts, pa.string())}
        if labels is not None:
            columns["candidate_labels"] = labels if isinstance(labels, pa.Array) else pa.array(labels)
        encoder = open_task("zero-shot-classification", options, judge).open_encoder()
        return encoder.encode(pa.table(columns), Limit(max_tokens, overflow))

    return make


def list_items(items, name="input_ids"):
    picks = np.arange(len(items))
    padded = items.make_input(name, picks, max(items.lengths.tolist(), default=1))
    return [row[:length].tolist() for row, length in zip(padded, items.lengths, strict=True)]


def codes(made):
    return [(rejection.row, rejection.code) for rejection in made.rejections]


def test_each_label_is_an_item_of_its_text(encode):
    made = encode(["alpha", "beta"], candidate_labels=["gamma", "delta beta"])

    assert list_items(made.items) == [
        [CLS, ALPHA, SEP, GAMMA, SEP],
        [CLS, ALPHA, SEP, DELTA, BETA, SEP],
        [CLS, BETA, SEP, GAMMA, SEP],
        [CLS, BETA, SEP, DELTA, BETA, SEP],
    ]
    assert list_items(made.items, "token_type_ids")[0] == [0, 0, 0, 1, 1]
    assert made.items.rows.tolist() == [0, 0, 1, 1]
    assert made.items.host["pair"].tolist() == [0, 1, 2, 3]
    assert made.items.host["labels"] == ["gamma", "delta beta"] * 2


def test_the_template_makes_a_sentence(encode):
    made = encode(["alpha"], candidate_labels=["beta"], hypothesis_template="gamma {} delta")

    assert list_items(made.items) == [[CLS, ALPHA, SEP, GAMMA, BETA, DELTA, SEP]]


@pytest.mark.parametrize("overflow", ["truncate", "split"])
def test_an_empty_label_is_a_second_text_of_short_texts_and_of_long_ones(encode, overflow):
    """As transformers has it, which gives pairs to the tokenizer in batches."""
    made = encode(["alpha", "alpha " * 9], max_tokens=8, overflow=overflow, candidate_labels=[""])

    assert list_items(made.items)[0] == [CLS, ALPHA, SEP, SEP]
    assert made.items.rows.tolist() == ([0, 1] if overflow == "truncate" else [0, 1, 1])
    assert all(ids[-2:] == [SEP, SEP] for ids in list_items(made.items))


def test_a_label_with_braces_is_a_label(encode):
    made = encode(["alpha"], candidate_labels=["{beta}", "{"])

    assert made.items.host["labels"] == ["{beta}", "{"]


@pytest.mark.parametrize(
    "labels",
    [
        [["beta"], ["gamma", "delta"]],
        ["beta", "gamma, delta"],
        pa.array([["beta"], ["gamma", "delta"]], pa.large_list(pa.large_string())),
        pa.array(["beta", " gamma ,,delta,"], pa.large_string()),
        pa.array(["beta", "gamma,delta"]).dictionary_encode(),
    ],
    ids=["lists", "texts", "large lists", "large texts", "dictionary"],
)
def test_a_row_can_bring_its_own_labels(encode, labels):
    made = encode(["alpha", "alpha"], labels, candidate_labels=["not", "these"])

    assert made.items.host["labels"] == ["beta", "gamma", "delta"]
    assert made.items.rows.tolist() == [0, 1, 1]


@pytest.mark.parametrize("labels", [[["a"], [], ["b"], [None], ["c", None]], ["a", "", "b", " , ", ","]])
def test_a_row_without_labels_is_rejected(encode, labels):
    made = encode(["alpha"] * 5, labels)

    assert codes(made) == [(1, "null_input"), (3, "null_input"), (4, "null_input")]
    assert made.items.rows.tolist() == [0, 2]
    assert made.items.host["labels"] == ["a", "b"]


def test_no_rows_and_rows_without_labels_have_no_items(encode):
    assert len(encode([], candidate_labels=["a"]).items) == 0
    assert len(encode([], pa.array([], pa.list_(pa.string()))).items) == 0
    assert len(encode(["alpha"], pa.array([[]], pa.list_(pa.string()))).items) == 0


def test_a_tokenizer_without_special_tokens(judge, tmp_path):
    folder = shutil.copytree(judge.folder, tmp_path / "bare")
    settings = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**settings, "post_processor": None}))
    model = resolve_model(ModelSpec(id=str(folder)), "")
    options = {"candidate_labels": ["", "beta"], "hypothesis_template": "{}"}
    encoder = open_task("zero-shot-classification", options, model).open_encoder()

    made = encoder.encode(pa.table({"text": ["", "alpha alpha"]}), Limit(2, "truncate"))

    assert codes(made) == [(0, "empty_input")]
    assert list_items(made.items) == [[ALPHA, ALPHA], [ALPHA, BETA]]
    assert made.items.rows.tolist() == [1, 1]
    assert made.items.host == {"pair": pytest.approx([0, 1]), "labels": ["", "beta"]}
    assert made.truncated.tolist() == [False, True]


def test_labels_from_nowhere_are_refused(encode):
    with pytest.raises(SpecError, match=r"options\.candidate_labels: there are no labels"):
        encode(["alpha"])


@pytest.mark.parametrize("labels", [[1, 2], [[1], [2]]])
def test_labels_that_are_no_text_are_refused(encode, labels):
    with pytest.raises(ColumnMissing, match="labels of type int64"):
        encode(["alpha", "beta"], labels)


@pytest.mark.parametrize("text", ["", "  \t\n", "🙂 👩‍👩‍👧", "שלום עולם", "a\0b\0"])
@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_any_text_is_a_premise(encode, text, overflow):
    made = encode([text], overflow=overflow, candidate_labels=["beta"])

    assert list_items(made.items)[0][-3:] == [SEP, BETA, SEP]
    assert made.rejections == () and not made.truncated.any()


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_a_pair_of_exactly_the_limit_is_left_alone(encode, overflow):
    made = encode(["alpha beta gamma"], None, 7, overflow, candidate_labels=["delta"])

    assert list_items(made.items) == [[CLS, ALPHA, BETA, GAMMA, SEP, DELTA, SEP]]
    assert made.rejections == () and not made.truncated.any()


def test_only_the_text_is_cut(encode):
    made = encode(["alpha beta gamma", "alpha"], None, 7, candidate_labels=["delta", "delta beta"])

    assert list_items(made.items) == [
        [CLS, ALPHA, BETA, GAMMA, SEP, DELTA, SEP],
        [CLS, ALPHA, BETA, SEP, DELTA, BETA, SEP],
        [CLS, ALPHA, SEP, DELTA, SEP],
        [CLS, ALPHA, SEP, DELTA, BETA, SEP],
    ]
    assert made.truncated.tolist() == [True, False]


def test_a_label_that_leaves_no_place_for_the_text_rejects_its_row(encode):
    labels = [["delta"], ["delta", "delta beta gamma"], ["delta beta gamma"]]

    for overflow in ("truncate", "split"):
        made = encode(["alpha beta gamma", "alpha", ""], labels, 6, overflow)

        # The last row has an empty text: nothing had to be cut.
        assert codes(made) == [(1, "too_long")]
        assert made.items.rows.tolist() == ([0, 2] if overflow == "truncate" else [0, 0, 2])
        assert made.truncated.tolist() == [overflow == "truncate", False, False]


def test_a_row_with_one_pair_too_long_is_rejected_whole(encode):
    made = encode(["alpha beta", "alpha"], None, 6, "reject", candidate_labels=["delta", "delta gamma"])

    assert codes(made) == [(0, "too_long")]
    assert made.items.rows.tolist() == [1, 1]
    assert made.items.host["pair"].tolist() == [0, 1]


@pytest.mark.parametrize(("overflow", "windows"), [("truncate", 1), ("split", 22)])
def test_a_text_of_twenty_times_the_limit(encode, overflow, windows):
    made = encode(["alpha " * 960, "beta"], None, 48, overflow, candidate_labels=["delta", "gamma"])

    assert made.items.lengths.tolist()[0] == 48
    assert made.items.rows.tolist() == [0] * (2 * windows) + [1, 1]
    assert made.items.host["pair"].tolist() == [0] * windows + [1] * windows + [2, 3]
    assert all(ids[-3] == SEP and ids[-1] == SEP for ids in list_items(made.items))
    assert made.truncated.tolist() == [overflow == "truncate", False]


def test_the_head_gives_contradiction_and_entailment():
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.bfloat16)

    def run(*classes):
        (chosen,) = make_task(classes).head(lambda **inputs: SimpleNamespace(logits=logits), {})
        assert chosen.dtype == torch.float32
        return chosen.tolist()

    assert run("contradiction", "neutral", "entailment") == [[1.0, 3.0], [4.0, 6.0]]
    assert run("Entailment", "neutral", "contradiction") == [[3.0, 1.0], [6.0, 4.0]]
    assert run("no", "ENTAILS", "perhaps") == [[1.0, 2.0], [4.0, 5.0]]


def test_the_names_of_classes_can_stand_in_id2label_alone():
    config = {"id2label": {"0": "entailment", "1": "not_entailment"}}
    model = Model("m", Path("m"), None, "0", config, False, None)

    assert open_task("zero-shot-classification", {}, model).entailment == 0


def test_a_model_that_names_no_entailment_is_refused():
    with pytest.raises(ModelError, match="none of its classes is called entailment, but bad, good"):
        make_task(["bad", "good"])


def decode(task, logits, rows, labels, pair=None, lengths=None):
    """The task's columns for these logits of items that belong to `rows`."""
    logits = np.array(logits, np.float32)
    items = make_items([[1] * length for length in lengths or [1] * len(logits)], rows)
    host = {"pair": np.arange(len(logits)) if pair is None else np.array(pair), "labels": labels}
    order = np.arange(len(logits))[::-1]
    outputs = Outputs(len(logits), (OutputBatch(order, (logits[order],)),))
    columns = task.decode(replace(items, host=host), rows[-1] + 1, outputs).columns
    assert columns.schema == task.schema
    return columns["labels"].to_pylist(), columns["scores"].to_pylist()


def test_scores_of_a_row_add_up_to_one():
    logits = [[9.0, 0.0], [-9.0, np.log(3)], [0.0, np.log(4)], [0.0, 1.0], [0.0, 1.0]]

    labels, scores = decode(make_task(), logits, [0, 0, 0, 1, 1], ["a", "b", "c", "d", "e"])

    assert labels == [["c", "b", "a"], ["d", "e"]]
    assert scores[0] == pytest.approx([0.5, 0.375, 0.125], abs=1e-6)
    assert scores[1] == [0.5, 0.5]


def test_independent_labels_are_held_against_contradiction():
    logits = [[0.0, 0.0], [0.0, np.log(3)], [np.log(4), 0.0]]

    labels, scores = decode(make_task(multi_label=True), logits, [0, 0, 0], ["a", "b", "c"])

    assert labels == [["b", "a", "c"]]
    assert scores[0] == pytest.approx([0.75, 0.5, 0.2], abs=1e-6)


def test_a_label_alone_is_held_against_contradiction():
    logits = [[0.0, np.log(3)], [5.0, 1.0], [-5.0, 1.0]]

    labels, scores = decode(make_task(), logits, [0, 1, 1], ["a", "b", "c"])

    assert labels == [["a"], ["b", "c"]]
    assert scores[0] == pytest.approx([0.75]) and scores[1] == [0.5, 0.5]


def test_equal_scores_stand_in_the_order_of_the_labels():
    labels, _ = decode(make_task(), [[0.0, 1.0], [0.0, 2.0], [0.0, 1.0], [0.0, 2.0]], [0] * 4, list("dcba"))

    assert labels == [["c", "a", "d", "b"]]


def test_the_same_label_twice_is_there_twice():
    labels, scores = decode(make_task(), [[0.0, 1.0], [0.0, 1.0]], [0, 0], ["a", "a"])

    assert labels == [["a", "a"]] and scores == [[0.5, 0.5]]


def test_windows_of_a_pair_are_averaged_by_their_tokens():
    # a: (1 * 0 + 3 * 4) / 4 = 3 against b: 3 - log(3)
    logits = [[0.0, 0.0], [0.0, 4.0], [0.0, 3.0 - np.log(3)]]

    labels, scores = decode(make_task(), logits, [0, 0, 0], ["a", "b"], pair=[0, 0, 1], lengths=[1, 3, 9])

    assert labels == [["a", "b"]]
    assert scores[0] == pytest.approx([0.75, 0.25], abs=1e-6)


def test_logits_of_any_size_have_scores():
    labels, scores = decode(make_task(), [[0.0, 3e38], [0.0, -3e38], [-1e5, 1e5]], [0, 0, 1], ["a", "b", "c"])

    assert labels == [["a", "b"], ["c"]] and scores == [[1.0, 0.0], [1.0]]


def test_numbers_that_are_none_stay_in_their_row():
    _, scores = decode(
        make_task(), [[0.0, np.nan], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], [0, 0, 1, 1], list("abcd")
    )

    assert scores[1] == [0.5, 0.5]


@given(st.lists(st.lists(st.tuples(*[st.floats(-20, 20, width=32)] * 2), min_size=1, max_size=5), min_size=1))
@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_of_many_rows_are_those_of_each_row(multi_label, rows):
    logits = np.array([pair for row in rows for pair in row], np.float32)

    scores = score_pairs(logits, np.array([len(row) for row in rows]), multi_label=multi_label)

    expected = []
    for row in rows:
        powers = np.exp(np.array(row, np.float64))
        alone = multi_label or len(row) == 1
        expected += (powers / powers.sum(1, keepdims=True) if alone else powers / powers.sum(0))[
            :, 1
        ].tolist()
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "parsed"),
    [
        ("a", ["a"]),
        (" a, b c ,, ", ["a", "b c"]),
        ("", []),
        (["a, b", " c "], ["a, b", " c "]),
        (["a", None], []),
        ([], []),
    ],
)
def test_parse_labels(labels, parsed):
    assert parse_labels(labels) == parsed


@pytest.mark.parametrize(
    "options",
    [
        {"candidate_labels": []},
        {"candidate_labels": " , "},
        {"candidate_labels": [1]},
        {"hypothesis_template": "no place"},
        {"hypothesis_template": "{label}"},
        {"hypothesis_template": "{} {}"},
        {"hypothesis_template": "{"},
        {"hypothesis_template": ""},
        {"multi_class": True},
    ],
    ids=str,
)
def test_senseless_options_are_refused(options):
    with pytest.raises(ValidationError):
        Options.model_validate(options)
