"""feature-extraction: pooling against plain numpy over hidden states that are given, not computed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import SpecError
from batchneuron.model import Model, SentenceConfig
from batchneuron.stages.items import OutputBatch, Outputs
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import open_task
from batchneuron.tasks.feature_extraction import PromptedEncoder
from tests.backends.arithmetic import make_items

HIDDEN = 5
PROMPTS = {"query": "find: ", "document": ""}


def make_model(sentence=None):
    return Model("m", Path("m"), None, "0", {"hidden_size": HIDDEN}, False, sentence)


def make_sentence(pooling="cls", normalize=True, prompts=PROMPTS, default=None, lower=False):
    return SentenceConfig(pooling, normalize, None, lower, prompts, default)


def make_task(sentence=None, **options):
    return open_task("feature-extraction", options, make_model(sentence))


def make_states(lengths, length=7, seed=0):
    """Hidden states and the mask of rows of these lengths; what stands under padding must not matter."""
    states = np.random.default_rng(seed).normal(size=(len(lengths), length, HIDDEN)).astype(np.float32)
    mask = (np.arange(length) < np.array(lengths)[:, None]).astype(np.int64)
    states[mask == 0] = 1e4
    return states, mask


def head(task, states, mask):
    inputs = {"input_ids": torch.tensor(mask), "attention_mask": torch.tensor(mask)}
    (vectors,) = task.head(lambda **_: (torch.tensor(states), "a pooler's output"), inputs)
    return vectors.numpy()


def decode(task, batches, items, rows):
    outputs = Outputs(len(items), tuple(OutputBatch(np.array(picks), (np.array(v),)) for picks, v in batches))
    decoded = task.decode(items, rows, outputs)
    assert decoded.columns.schema == task.schema
    assert decoded.columns.num_rows == rows
    return decoded


def decode_vectors(task, vectors):
    vectors = np.array(vectors, np.float32)
    items = make_items([[1]] * len(vectors))
    return decode(task, [(range(len(vectors)), vectors)], items, len(vectors))


BY_HAND = {
    "mean": lambda tokens: tokens.mean(axis=0),
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.max(axis=0),
    "last": lambda tokens: tokens[-1],
}


@pytest.mark.parametrize("pooling", BY_HAND)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_pooling_sees_the_tokens_and_nothing_of_the_padding(pooling, lengths, seed):
    states, mask = make_states(lengths, seed=seed)

    vectors = head(make_task(pooling=pooling), states, mask)

    expected = [BY_HAND[pooling](row[:length]) for row, length in zip(states, lengths, strict=True)]
    assert vectors.dtype == np.float32
    assert np.allclose(vectors, expected, atol=1e-5)


@pytest.mark.parametrize("pooling", BY_HAND)
def test_more_padding_does_not_change_a_bit(pooling):
    states, mask = make_states([3, 7, 1])
    wider = np.pad(states, ((0, 0), (0, 4), (0, 0)), constant_values=1e4)

    narrow = head(make_task(pooling=pooling), states, mask)
    wide = head(make_task(pooling=pooling), wider, np.pad(mask, ((0, 0), (0, 4))))

    assert np.allclose(wide, narrow, atol=1e-6)


def test_without_pooling_every_token_keeps_its_vector():
    states, mask = make_states([3, 7])

    assert (head(make_task(pooling="none"), states, mask) == states).all()


def test_normalized_vectors_have_length_one_and_the_same_direction():
    states, mask = make_states([3, 7, 1])

    plain = head(make_task(pooling="mean"), states, mask)
    unit = head(make_task(pooling="mean", normalize=True), states, mask)

    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert np.allclose(unit * np.linalg.norm(plain, axis=1, keepdims=True), plain, atol=1e-5)


def test_truncated_vectors_are_the_first_numbers_and_of_length_one_too():
    states, mask = make_states([3, 7, 1])

    plain = head(make_task(pooling="cls"), states, mask)
    short = head(make_task(pooling="cls", truncate_dim=2), states, mask)
    unit = head(make_task(pooling="cls", truncate_dim=2, normalize=True), states, mask)

    assert (short == plain[:, :2]).all()
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert make_task(truncate_dim=99).width == HIDDEN


def test_single_precision_whatever_the_model_computes_in():
    states, mask = make_states([3])
    inputs = {"attention_mask": torch.tensor(mask)}

    (vectors,) = make_task().head(lambda **_: (torch.tensor(states).bfloat16(),), inputs)

    assert vectors.dtype == torch.float32


@pytest.mark.parametrize(
    ("sentence", "options", "pooling", "normalize"),
    [
        (None, {}, "mean", False),
        (make_sentence(), {}, "cls", True),
        (make_sentence("last", False), {}, "last", False),
        (make_sentence(), {"pooling": "max", "normalize": False}, "max", False),
        (None, {"normalize": True}, "mean", True),
    ],
)
def test_what_is_not_given_follows_the_model_s_files(sentence, options, pooling, normalize):
    task = make_task(sentence, **options)

    assert (task.pooling, task.normalize) == (pooling, normalize)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, pa.list_(pa.float32(), HIDDEN)),
        ({"truncate_dim": 2}, pa.list_(pa.float32(), 2)),
        ({"dtype": "float16"}, pa.list_(pa.float16(), HIDDEN)),
        ({"pooling": "none"}, pa.list_(pa.list_(pa.float32(), HIDDEN))),
        ({"pooling": "none", "dtype": "float16", "truncate_dim": 3}, pa.list_(pa.list_(pa.float16(), 3))),
    ],
)
def test_the_schema_says_how_wide_vectors_are(options, kind):
    assert make_task(**options).schema == pa.schema([("embedding", kind)])


def test_vectors_are_stored_as_they_are():
    vectors = np.arange(3 * HIDDEN, dtype=np.float32).reshape(3, HIDDEN) / 3

    decoded = decode_vectors(make_task(), vectors)

    assert decoded.rejections == ()
    assert decoded.columns["embedding"].to_pylist() == vectors.tolist()


def test_half_precision():
    vectors = np.array([[1.0, 0.1, -2.5, 65504.0, 1e-8]], np.float32)

    decoded = decode_vectors(make_task(dtype="float16"), vectors)

    assert decoded.columns["embedding"].to_pylist() == vectors.astype(np.float16).tolist()


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_half_precision_cannot_hold_is_rejected():
    decoded = decode_vectors(make_task(dtype="float16"), [[1.0] * HIDDEN, [1e6] * HIDDEN])

    assert [(rejection.row, rejection.code) for rejection in decoded.rejections] == [(1, "non_finite")]


@pytest.mark.parametrize(("overflow", "expected"), [("both", [1, 2]), ("none", [])])
def test_token_vectors_that_half_precision_cannot_hold_reject_their_row(overflow, expected):
    items = make_items([[1]] + [[1, 1]] * 3, [0, 1, 1, 2])
    states = np.ones((4, 3, HIDDEN), np.float32)
    states[:, 2] = 1e6  # under the padding
    if overflow == "both":
        states[2, 1, 3], states[3, 0, 0] = 1e6, -1e6

    decoded = decode(make_task(pooling="none", dtype="float16"), [(range(4), states)], items, 3)

    assert [(rejection.row, rejection.code) for rejection in decoded.rejections] == [
        (row, "non_finite") for row in expected
    ]
    plain = decode(make_task(pooling="none"), [(range(4), states)], items, 3)
    assert plain.rejections == ()


@pytest.mark.parametrize("options", [{}, {"normalize": True}, {"dtype": "float16"}, {"dtype": "binary"}])
def test_a_vector_without_a_direction_is_rejected(options):
    vectors = [[1.0] * HIDDEN, [0.0] * HIDDEN, [0.5] * HIDDEN, [1e-30] * HIDDEN]

    (rejection,) = decode_vectors(make_task(**options), vectors).rejections
    assert (rejection.row, rejection.code) == (1, "zero_norm")


def test_a_split_row_is_the_mean_of_its_windows_weighted_by_tokens():
    windows = np.eye(4, HIDDEN, dtype=np.float32)
    items = make_items([[1] * length for length in (1, 3, 2, 5)], [0, 0, 1, 2])
    batches = [([1, 3], windows[[1, 3]]), ([0, 2], windows[[0, 2]])]

    plain = decode(make_task(), batches, items, 3).columns["embedding"].to_pylist()
    unit = decode(make_task(normalize=True), batches, items, 3).columns["embedding"].to_pylist()

    assert plain == [[0.25, 0.75, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    assert unit[0] == pytest.approx(np.array([1, 3, 0, 0, 0]) / np.sqrt(10))
    assert unit[1:] == plain[1:]


def test_windows_that_cancel_out_are_rejected():
    items = make_items([[1], [1], [1]], [0, 0, 1])
    vectors = np.array([[1, 0, 0, 0, 0], [-1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], np.float32)

    for normalize in (True, False):
        (rejection,) = decode(make_task(normalize=normalize), [(range(3), vectors)], items, 2).rejections
        assert (rejection.row, rejection.code) == (0, "zero_norm")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=3), min_size=1, max_size=6), st.randoms())
def test_token_vectors_come_back_without_padding_and_in_order(windows_of_rows, random):
    lengths = [length for windows in windows_of_rows for length in windows]
    rows = [row for row, windows in enumerate(windows_of_rows) for _ in windows]
    items = make_items([[1] * length for length in lengths], rows)
    states, _ = make_states(lengths, length=9)
    order = random.sample(range(len(lengths)), len(lengths))
    short = [pick for pick in order if lengths[pick] <= 3]
    long = [pick for pick in order if lengths[pick] > 3]
    batches = [(picks, states[picks][:, :width]) for picks, width in ((long, 9), (short, 3)) if picks]

    decoded = decode(make_task(pooling="none"), batches, items, len(windows_of_rows))

    found = decoded.columns["embedding"].to_pylist()
    for row, vectors in enumerate(found):
        own = [states[i, : lengths[i]] for i in range(len(lengths)) if rows[i] == row]
        assert vectors == np.concatenate(own).tolist()


def make_encoder(task):
    """The task's encoder with its tokenizer replaced by one that remembers, and what it remembers."""
    seen = []
    tokenizer = SimpleNamespace(
        encode=lambda texts, pairs, limit: seen.append((texts, pairs)), model_limit_tokens=9
    )
    prompted = PromptedEncoder(
        tokenizer, task._find_prompt(), lower_case=bool(task.model.sentence.do_lower_case)
    )
    return prompted, seen


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize(
    ("sentence", "options", "texts"),
    [
        (make_sentence(), {}, ["Alpha", ""]),
        (make_sentence(), {"prompt": "say: "}, ["say: Alpha", "say: "]),
        (make_sentence(), {"prompt_name": "query"}, ["find: Alpha", "find: "]),
        (make_sentence(), {"prompt_name": "document"}, ["Alpha", ""]),
        (make_sentence(default="query"), {}, ["find: Alpha", "find: "]),
        (make_sentence(default="query"), {"prompt": ""}, ["Alpha", ""]),
        (make_sentence(default="query"), {"prompt_name": "document"}, ["Alpha", ""]),
        (make_sentence(lower=True), {"prompt": "Say: "}, ["say: alpha", "say: "]),
    ],
)
def test_a_prompt_stands_before_every_text(kind, sentence, options, texts):
    encoder, seen = make_encoder(make_task(sentence, **options))

    encoder.encode(pa.table({"text": pa.array(["Alpha", ""], kind)}), Limit(8, "truncate"))

    assert seen == [(texts, None)]
    assert encoder.model_limit_tokens == 9


@pytest.mark.parametrize(
    ("sentence", "hint"),
    [(None, "the model has none"), (make_sentence(), "the model has document, query")],
)
def test_an_unknown_prompt_is_refused_when_the_task_is_opened(sentence, hint):
    with pytest.raises(SpecError, match=f"no prompt 'passage'.*{hint}"):
        make_task(sentence, prompt_name="passage")


def test_a_default_prompt_that_is_not_there_is_refused_too():
    with pytest.raises(SpecError, match="no prompt 'gone'"):
        make_task(make_sentence(default="gone"))
