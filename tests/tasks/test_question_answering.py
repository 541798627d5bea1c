"""question-answering: scores, places, windows and repeated answers, against answers worked out by hand."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from batchneuron.errors import ModelError, SpecError
from batchneuron.model import Model
from batchneuron.stages.items import OutputBatch, Outputs
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import open_task
from batchneuron.tasks.spans import Answerable, find_spans
from tests.tiny import MAX_POSITIONS, WORDS

LIMIT = Limit(20, "truncate")
QUESTION = "iota"  # one token, and three special ones: 16 tokens of context in a window
SURE = 9.0  # e to this is 8,103 times what the other tokens weigh


@pytest.fixture(scope="module")
def make_task(encoder):
    """A function that opens the task with these options over the tiny tokenizer."""

    def make(**options):
        return open_task("question-answering", options, Model("m", encoder, None, "0", {}, False, None))

    return make


def encode(task, rows, limit=LIMIT):
    names = ("question", "context")
    columns = [pa.array(texts, pa.string()) for texts in zip(*rows, strict=True)]
    return task.open_encoder().encode(pa.table(columns, names=names), limit)


def run(task, rows, limit=LIMIT, starts=(), ends=(), broken=()):
    """The answers of each row that has items, where the model is sure of these start and end tokens."""
    made = encode(task, rows, limit)
    # As the encode stage counts: only rows that have items.
    items = replace(made.items, rows=np.unique(made.items.rows, return_inverse=True)[1])
    ids, bounds = items.tensors["input_ids"].values, items.tensors["input_ids"].offsets
    names = np.array(task.open_encoder().tokenizer.transformers_tokenizer.convert_ids_to_tokens(ids.tolist()))
    batches = []
    for pick in reversed(range(len(items))):
        tokens = names[bounds[pick] : bounds[pick + 1]]
        logits = [np.full((1, len(tokens) + 3), 50.0, np.float32) for _ in range(2)]
        for side, sure in zip(logits, (starts, ends), strict=True):
            side[0, : len(tokens)] = np.where(np.isin(tokens, sure), SURE, 0.0)
            side[0, : len(tokens)] = np.nan if pick in broken else side[0, : len(tokens)]
        batches.append(OutputBatch(np.array([pick]), tuple(logits)))
    columns = task.decode(items, len(set(items.rows.tolist())), Outputs(len(items), tuple(batches))).columns
    assert columns.schema == task.schema
    return columns["answers"].to_pylist() if "answers" in columns.column_names else columns.to_pylist()


def brief(answer):
    return answer["answer"], answer["start"], answer["end"]


def test_the_likeliest_span(make_task):
    (one,) = run(make_task(), [(QUESTION, "alpha beta  gamma delta.")], starts=["beta"], ends=["gamma"])

    weight = np.exp(SURE)
    assert brief(one) == ("beta  gamma", 6, 17)
    # Over the four words, the full stop and the class token; neither the question nor padding.
    assert one["score"] == pytest.approx((weight / (weight + 5)) ** 2, abs=1e-6)


@pytest.mark.parametrize(
    ("starts", "ends", "likeliest"),
    [("gamma", "alpha", "alpha"), ("alpha", "delta", "alpha"), ("alpha", "gamma", "alpha beta gamma")],
)
def test_no_answer_ends_before_it_starts_or_is_longer_than_allowed(starts, ends, likeliest, make_task):
    task = make_task(max_answer_len=3, top_k=20, align_to_words=False)

    (found,) = run(task, [(QUESTION, "alpha beta gamma delta")], starts=[starts], ends=[ends])

    texts = [one["answer"] for one in found]
    assert texts[0] == likeliest and "alpha beta gamma delta" not in texts and "" not in texts
    assert len(found) == 4 + 3 + 2
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)


@pytest.mark.parametrize(("align", "expected"), [(True, ("alphaz,", 3, 10)), (False, ("z,", 8, 10))])
def test_an_answer_is_widened_to_words(align, expected, make_task):
    """The word is two tokens, and the comma a word of its own."""
    task = make_task(align_to_words=align)

    (one,) = run(task, [(QUESTION, "mu alphaz, mu")], starts=["##z"], ends=[","])

    assert brief(one) == expected


def test_answers_that_read_the_same_are_one(make_task):
    context = "Alpha mu ALPHA mu alpha"

    (one,) = run(make_task(), [(QUESTION, context)], starts=["alpha"], ends=["alpha"])
    (two,) = run(make_task(top_k=2), [(QUESTION, context)], starts=["alpha"], ends=["alpha"])

    third = (np.exp(SURE) / (3 * np.exp(SURE) + 3)) ** 2
    assert brief(one) == ("Alpha", 0, 5)
    assert one["score"] == pytest.approx(3 * third, abs=1e-4)
    assert [len(two), two[0]] == [2, one]


def test_the_empty_answer(make_task):
    rows = [(QUESTION, "alpha beta")]

    (sure_of_none,) = run(make_task(handle_impossible_answer=True), rows, starts=["[CLS]"], ends=["[CLS]"])
    (not_asked,) = run(make_task(), rows, starts=["[CLS]"], ends=["[CLS]"])
    (found,) = run(make_task(handle_impossible_answer=True, top_k=9), rows, starts=["alpha"], ends=["alpha"])

    weight = np.exp(SURE)
    assert brief(sure_of_none) == ("", 0, 0)
    assert sure_of_none["score"] == pytest.approx((weight / (weight + 2)) ** 2, abs=1e-6)
    assert not_asked["answer"] in {"alpha", "beta", "alpha beta"}
    assert found[0]["answer"] == "alpha" and [one["answer"] for one in found].count("") == 1


@pytest.mark.parametrize("context", ["", "  \n", "\x00"])
def test_a_context_without_a_token(context, make_task):
    rows = [(QUESTION, context), (QUESTION, "alpha")]

    nothing, _ = run(make_task(), rows)
    empty_list, _ = run(make_task(top_k=2), rows)
    impossible, _ = run(make_task(handle_impossible_answer=True), rows)

    assert (*brief(nothing), nothing["score"]) == ("", 0, 0, 0.0)
    assert empty_list == []
    assert (*brief(impossible), impossible["score"]) == ("", 0, 0, 1.0)


@pytest.mark.parametrize("before", ["🦜 ", "שלום ", "é\x00 ", "東京", "e\u0301 "])
def test_places_count_characters(before, make_task):
    context = f"{before}alpha mu"

    (one,) = run(make_task(), [("", context)], starts=["alpha"], ends=["alpha"])

    assert brief(one) == ("alpha", len(before), len(before) + 5)


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
@pytest.mark.parametrize("words", [1, 16, 17, 400])
def test_a_context_at_the_limit_and_beyond(words, overflow, make_task):
    task, context = make_task(doc_stride=4), " ".join(["mu"] * (words - 1) + ["alpha"])
    rows, limit = [(QUESTION, context), (QUESTION, "alpha")], Limit(20, overflow)
    is_long = words > 16

    made = encode(task, rows, limit)
    found = run(task, rows, limit, starts=["alpha"], ends=["alpha"])

    assert not made.truncated.any()
    assert made.items.lengths.max() <= 20
    assert [one["answer"] for one in found] == ["alpha"] * len(found)
    if overflow == "reject":
        assert [(one.row, one.code) for one in made.rejections] == [(0, "too_long")] * is_long
        assert len(found) == 2 - is_long
    else:
        assert (found[0]["start"], found[0]["end"]) == (len(context) - 5, len(context))
        assert len(made.items) == 2 + (-(-(words - 16) // 12) if is_long else 0)


@pytest.mark.parametrize(
    ("stride", "lengths"), [(None, [20, 20, 20]), (0, [20, 16]), (11, [20, 20, 20, 17]), (15, [20] * 13)]
)
def test_windows_share_the_stride(stride, lengths, make_task):
    """28 words, 16 in a window; by default neighbours share half of a window's 20 tokens."""
    made = encode(make_task(doc_stride=stride), [(QUESTION, " ".join(WORDS[:7] * 4))])

    assert made.items.lengths.tolist() == lengths


def test_a_stride_that_a_question_leaves_no_room_for_is_halved(make_task):
    made = encode(make_task(), [("mu " * 13, " ".join(WORDS))])

    assert made.items.lengths.tolist() == [20] * (1 + -(-(len(WORDS) - 4) // 2))


def test_a_long_question_is_cut_and_the_row_marked(make_task):
    task = make_task(max_question_len=2)

    made = encode(task, [("alpha beta gamma", "mu"), ("alpha beta", "mu"), ("alpha", "mu")])

    assert made.truncated.tolist() == [True, False, False]
    assert made.items.lengths.tolist() == [6, 6, 5]
    assert made.items.tensors["token_type_ids"].values.tolist() == [0, 0, 0, 0, 1, 1] * 2 + [0, 0, 0, 1, 1]


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_a_question_that_fills_the_window_is_rejected(overflow, make_task):
    made = encode(make_task(), [("mu " * 17, "alpha"), (QUESTION, "alpha")], Limit(20, overflow))

    assert [(one.row, one.code) for one in made.rejections] == [(0, "too_long")]
    assert made.items.rows.tolist() == [1]
    assert not made.truncated.any()


@pytest.mark.parametrize("limit", [Limit(7, "split"), Limit(3, "truncate")])
def test_a_limit_without_room_is_refused(limit, make_task):
    with pytest.raises(SpecError, match="tokens, and"):
        encode(make_task(doc_stride=4), [(QUESTION, "alpha")], limit)


def test_windows_of_a_row_are_ranked_together_and_the_lowest_null_score_counts(make_task):
    context = " ".join(["mu"] * 16 + ["alpha"])
    task = make_task(top_k=3, doc_stride=0, handle_impossible_answer=True)

    (found,) = run(task, [(QUESTION, context)], starts=["alpha"], ends=["alpha"])

    weight = np.exp(SURE)
    assert brief(found[0]) == ("alpha", len(context) - 5, len(context))
    assert found[0]["score"] == pytest.approx((weight / (weight + 1)) ** 2, abs=1e-6)
    (null,) = run(make_task(top_k=99, doc_stride=0, handle_impossible_answer=True), [(QUESTION, context)])
    assert min(one["score"] for one in null if not one["answer"]) == pytest.approx(1 / 17**2, abs=1e-6)


def test_a_row_of_nan_leaves_the_others_alone(make_task):
    rows = [(QUESTION, "alpha"), (QUESTION, "beta"), (QUESTION, "alpha mu")]

    first, _, last = run(make_task(), rows, starts=["alpha"], ends=["alpha"], broken=[1])

    assert (first["answer"], last["answer"]) == ("alpha", "alpha")


def test_equal_spans_come_in_the_order_of_the_text():
    zeros = np.zeros((1, 5), np.float32)
    outputs = Outputs(1, (OutputBatch(np.array([0]), (zeros, zeros)),))
    inside = np.array([False, True, True, True, False])

    spans, nulls = find_spans(outputs, Answerable(np.array([0, 5]), inside, inside), 2, 5)

    assert (spans.firsts.tolist(), spans.lasts.tolist()) == ([1, 1, 2, 2, 3], [1, 2, 2, 3, 3])
    assert spans.scores == pytest.approx(1 / 9)
    assert nulls.tolist() == [0.0]


def test_logits_leave_the_device_in_single_precision(make_task):
    logits = torch.zeros((2, 3), dtype=torch.bfloat16)
    outputs = SimpleNamespace(start_logits=logits, end_logits=logits + 1)

    start, end = make_task().head(lambda **inputs: outputs, {})

    assert (start.dtype, end.dtype, float(end[0, 0])) == (torch.float32, torch.float32, 1.0)


@pytest.mark.parametrize(
    "options", [{"top_k": 0}, {"doc_stride": -1}, {"max_answer_len": 0}, {"max_seq_len": 384}]
)
def test_options_are_checked(options, make_task):
    with pytest.raises(ValidationError):
        make_task(**options)


def test_a_tokenizer_without_places_is_refused(encoder, tmp_path, monkeypatch, make_task):
    from transformers import AutoTokenizer
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    vocabulary = json.loads((encoder / "tokenizer.json").read_text())["model"]["vocab"]
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    slow = BertTokenizerLegacy(str(tmp_path / "vocab.txt"), model_max_length=MAX_POSITIONS)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: slow)

    with pytest.raises(ModelError, match="not a fast one"):
        make_task().open_encoder()


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_no_rows_at_all(overflow, make_task):
    empty = pa.table({name: pa.array([], pa.string()) for name in ("question", "context")})

    made = make_task().open_encoder().encode(empty, Limit(20, overflow))

    assert (len(made.items), len(made.truncated), made.rejections) == (0, 0, ())


def test_a_model_that_is_padded_on_the_left_reads_the_context_first(make_task):
    encoder = make_task(max_question_len=1).open_encoder()
    encoder.tokenizer.transformers_tokenizer.padding_side = "left"
    table = pa.table({"question": ["iota mu"], "context": [" ".join(WORDS)]})

    made = encoder.encode(table, Limit(12, "split"))

    ids = np.split(made.items.tensors["input_ids"].values, made.items.tensors["input_ids"].offsets[1:-1])
    first = encoder.tokenizer.transformers_tokenizer.convert_ids_to_tokens(ids[0].tolist())
    assert first == ["[CLS]", *WORDS[:8], "[SEP]", "iota", "[SEP]"]
    assert made.truncated.tolist() == [True]
