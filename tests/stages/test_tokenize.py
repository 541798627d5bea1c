"""Tokenising: nothing cut without being counted, and no word lost when a row is split."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import SpecError
from batchneuron.model import Model, SentenceConfig, resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages.tokenize import Limit, Tokenizer
from tests.tiny import MAX_POSITIONS, WORDS

CLS, SEP = 2, 3
LIMIT = 7  # five words and two special tokens


@pytest.fixture(scope="module")
def model(encoder):
    return resolve_model(ModelSpec(id=str(encoder)), "")


@pytest.fixture(scope="module")
def tokenizer(model):
    return Tokenizer(model)


def make_text(words, start=0):
    """So many words, each of them one token."""
    return " ".join(WORDS[(start + i) % len(WORDS)] for i in range(words))


def token_ids(made):
    """Tokens of each item."""
    ragged = made.items.tensors["input_ids"]
    return [ids.tolist() for ids in np.split(ragged.values, ragged.offsets[1:-1])] if len(made.items) else []


def type_ids(made):
    ragged = made.items.tensors["token_type_ids"]
    return [ids.tolist() for ids in np.split(ragged.values, ragged.offsets[1:-1])]


def whole_ids(tokenizer, *texts):
    return token_ids(tokenizer.encode(texts, None, Limit(10_000, "truncate")))


@pytest.mark.parametrize("words", [0, LIMIT - 2, LIMIT - 1, 20 * LIMIT])
@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_a_row_at_the_limit_and_beyond(tokenizer, words, overflow):
    text = make_text(words)
    (whole,) = whole_ids(tokenizer, text)
    is_long = words + 2 > LIMIT

    made = tokenizer.encode(["alpha", text, "beta"], None, Limit(LIMIT, overflow))

    assert len(whole) == words + 2
    ids = [row for row, number in zip(token_ids(made), made.items.rows, strict=True) if number == 1]
    assert all(len(row) <= LIMIT for row in ids)
    assert made.truncated.tolist() == [False, is_long and overflow == "truncate", False]
    if overflow == "reject" and is_long:
        assert [(rejection.row, rejection.code) for rejection in made.rejections] == [(1, "too_long")]
        assert f"{words + 2} tokens" in made.rejections[0].message
        assert made.items.rows.tolist() == [0, 2]
        return
    assert made.rejections == ()
    if not is_long:
        assert ids == [whole]
    elif overflow == "truncate":
        assert ids == [[*whole[: LIMIT - 1], SEP]]
    else:
        assert len(ids) == -(-words // (LIMIT - 2))
        assert all((row[0], row[-1]) == (CLS, SEP) for row in ids)
        assert [token for row in ids for token in row[1:-1]] == whole[1:-1]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 30), max_size=6),
    st.integers(3, 12),
    st.sampled_from(["truncate", "split", "reject"]),
)
def test_a_row_becomes_the_same_items_whoever_its_neighbours_are(tokenizer, counts, most, overflow):
    texts = [make_text(words, start) for start, words in enumerate(counts)]
    limit = Limit(most, overflow)

    together = tokenizer.encode(texts, None, limit)
    alone = [tokenizer.encode([text], None, limit) for text in texts]

    assert token_ids(together) == [ids for made in alone for ids in token_ids(made)]
    assert together.items.rows.tolist() == [i for i, made in enumerate(alone) for _ in range(len(made.items))]
    assert together.truncated.tolist() == [bool(made.truncated[0]) for made in alone]
    assert [rejection.row for rejection in together.rejections] == [
        i for i, made in enumerate(alone) if made.rejections
    ]
    assert together.items.lengths.tolist() == [len(ids) for ids in token_ids(together)]


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_rows_of_a_large_shard_keep_their_numbers(tokenizer, overflow):
    """Rows are tokenised a few hundred at a time."""
    counts = [1 + row % 5 for row in range(700)]
    counts[300] = counts[699] = LIMIT  # two words too many

    made = tokenizer.encode([make_text(count) for count in counts], None, Limit(LIMIT, overflow))

    long = {"truncate": [300, 699], "split": [300, 300, 699, 699], "reject": []}[overflow]
    assert made.items.rows.tolist() == sorted([*(set(range(700)) - {300, 699}), *long])
    assert np.flatnonzero(made.truncated).tolist() == ([300, 699] if overflow == "truncate" else [])
    assert [rejection.row for rejection in made.rejections] == ([300, 699] if overflow == "reject" else [])
    expected = [min(count + 2, LIMIT) for row, count in enumerate(counts) if row not in (300, 699)]
    others = ~np.isin(made.items.rows, [300, 699])
    assert made.items.lengths[others].tolist() == expected


def test_types_of_a_text_that_are_not_zero_are_kept(model, tmp_path):
    """XLNet's last token has a type of its own."""
    folder = shutil.copytree(model.folder, tmp_path / "typed")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"]["single"][-1]["SpecialToken"]["type_id"] = 2
    path.write_text(json.dumps(content))

    made = Tokenizer(resolve_model(ModelSpec(id=str(folder)), "")).encode(
        [make_text(1), make_text(9)], None, Limit(LIMIT, "truncate")
    )

    assert type_ids(made) == [[0, 0, 2], [0] * (LIMIT - 1) + [2]]


@pytest.mark.parametrize("overflow", ["truncate", "split"])
def test_an_empty_second_text_is_one_wherever_the_first_is_cut(tokenizer, overflow):
    made = tokenizer.encode([make_text(1), make_text(9)], ["", ""], Limit(LIMIT, overflow))

    windows = {"truncate": 1, "split": 3}[overflow]
    assert made.items.rows.tolist() == [0] + [1] * windows
    assert [ids[-2:] for ids in token_ids(made)] == [[SEP, SEP]] * (1 + windows)


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_a_row_without_a_second_text_is_one_text_whatever_its_neighbours_have(tokenizer, overflow):
    texts, limit = [make_text(1), make_text(9), make_text(5), make_text(1)], Limit(LIMIT, overflow)
    alone = tokenizer.encode(texts[:3], None, limit)

    made = tokenizer.encode(texts, [None, None, None, make_text(2, 3)], limit)

    count = len(alone.items)
    assert token_ids(made)[:count] == token_ids(alone)
    assert type_ids(made)[:count] == type_ids(alone)
    assert made.items.rows[:count].tolist() == alone.items.rows.tolist()
    assert made.truncated[:3].tolist() == alone.truncated.tolist()
    assert made.rejections == alone.rejections
    assert len(token_ids(made)[count]) == 6


def test_no_rows_are_no_items(tokenizer):
    for pairs in (None, []):
        made = tokenizer.encode([], pairs, Limit(LIMIT, "truncate"))
        assert (len(made.items), len(made.truncated), made.rejections) == (0, 0, ())


def test_truncation_and_padding_in_the_tokenizer_file_are_ignored(model, tokenizer, tmp_path):
    folder = shutil.copytree(model.folder, tmp_path / "baked")
    path = folder / "tokenizer.json"
    baked = json.loads(path.read_text())
    baked["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    baked["padding"] = {
        "strategy": {"Fixed": 32},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    path.write_text(json.dumps(baked))
    texts = [make_text(1), make_text(20)]

    for overflow in ("truncate", "split", "reject"):
        limit = Limit(13, overflow)
        made = Tokenizer(resolve_model(ModelSpec(id=str(folder)), "")).encode(texts, None, limit)
        assert token_ids(made) == token_ids(tokenizer.encode(texts, None, limit))


def test_a_cut_row_leaves_no_truncation_behind_for_the_next_call(tokenizer):
    before = whole_ids(tokenizer, make_text(30))
    tokenizer.encode([make_text(30)], None, Limit(LIMIT, "split"))
    tokenizer.encode([make_text(30)], None, Limit(LIMIT, "truncate"))

    assert whole_ids(tokenizer, make_text(30)) == before


def test_a_pair_is_two_segments_of_one_item(tokenizer):
    made = tokenizer.encode(["alpha beta", ""], ["gamma", "delta"], Limit(16, "truncate"))
    (alpha, beta, gamma, delta) = (whole_ids(tokenizer, word)[0][1] for word in WORDS[:4])

    assert token_ids(made) == [[CLS, alpha, beta, SEP, gamma, SEP], [CLS, SEP, delta, SEP]]
    assert type_ids(made) == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1]]


def test_of_a_long_pair_the_longer_text_is_cut_first(tokenizer):
    made = tokenizer.encode([make_text(9)], [make_text(2, 9)], Limit(9, "truncate"))
    long, short = whole_ids(tokenizer, make_text(9), make_text(2, 9))

    assert token_ids(made) == [[*long[:5], SEP, *short[1:]]]
    assert type_ids(made) == [[0] * 6 + [1] * 3]
    assert made.truncated.tolist() == [True]


def test_windows_of_a_pair_hold_all_of_the_second_text(tokenizer):
    made = tokenizer.encode(["beta", make_text(11)], ["alpha", make_text(2, 9)], Limit(9, "split"))
    long, short = whole_ids(tokenizer, make_text(11), make_text(2, 9))
    windows = token_ids(made)[1:]

    assert made.items.rows.tolist() == [0, 1, 1, 1]
    assert all(len(window) <= 9 and window[-3:] == short[1:] for window in windows)
    assert [token for window in windows for token in window[1:-4]] == long[1:-1]


def test_a_second_text_that_fills_a_window_alone_does_not_stop_the_job(tokenizer):
    made = tokenizer.encode(["beta", "beta"], [make_text(20), "alpha"], Limit(9, "split"))

    assert all(len(ids) <= 9 for ids in token_ids(made))
    assert made.items.rows.tolist() == [0, 1]
    assert made.truncated.tolist() == [True, False]


@pytest.mark.parametrize(("most", "overflow"), [(1, "truncate"), (1, "split"), (2, "truncate"), (2, "split")])
def test_a_limit_that_special_tokens_fill_is_refused(tokenizer, most, overflow):
    with pytest.raises(SpecError, match=f"{most} tokens leave no room beside 2 special ones"):
        tokenizer.encode([make_text(5)], None, Limit(most, overflow))


def test_what_a_tokenizer_does_not_know_is_still_a_token(tokenizer):
    texts = ["😀", "naïve café", "\x00", "你好", "a" * 500]
    made = tokenizer.encode(texts, None, Limit(LIMIT, "truncate"))

    assert len(made.items) == len(texts)
    assert made.items.lengths.min() >= 2


def test_a_text_without_any_token_is_no_item(model, tmp_path):
    """Tokenizers without special tokens make nothing of an empty text, and a mask needs something."""
    folder = shutil.copytree(model.folder, tmp_path / "bare")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))

    made = Tokenizer(Model("x", folder, None, "0", {}, False, None)).encode(
        ["alpha", "", "beta"], None, Limit(LIMIT, "truncate")
    )

    assert made.items.rows.tolist() == [0, 2]
    assert [rejection.row for rejection in made.rejections] == [1]


def make_model(model, config, max_seq_length=None):
    sentence = SentenceConfig("mean", False, max_seq_length, False, {}, None)
    return Model("x", model.folder, None, "0", config, False, sentence)


@pytest.mark.parametrize(
    ("config", "max_seq_length", "limit"),
    [
        ({}, None, MAX_POSITIONS),  # the tokenizer's own
        ({"max_position_embeddings": 40}, None, 40),
        ({"max_position_embeddings": 400}, None, MAX_POSITIONS),
        ({"max_position_embeddings": -1}, None, MAX_POSITIONS),
        ({"max_position_embeddings": 40}, 33, 33),
        ({"max_position_embeddings": 40, "model_type": "roberta", "pad_token_id": 1}, None, 38),
        ({"max_position_embeddings": 40, "model_type": "mpnet", "pad_token_id": 1}, 39, 38),
        ({"max_position_embeddings": 40, "model_type": "bert", "pad_token_id": 1}, None, 40),
        ({"n_positions": 40, "model_type": "gpt2"}, None, 40),
        ({"n_positions": 40, "model_type": "t5"}, None, MAX_POSITIONS),  # relative positions
    ],
)
def test_the_limit_is_the_smallest_that_anything_of_the_model_says(model, config, max_seq_length, limit):
    assert Tokenizer(make_model(model, config, max_seq_length)).model_limit_tokens == limit


def test_a_tokenizer_without_a_limit_falls_back_to_a_common_one(model, tmp_path):
    folder = shutil.copytree(model.folder, tmp_path / "endless")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": int(1e30)}))
    endless = Model("x", folder, None, "0", {}, False, None)

    assert Tokenizer(endless).model_limit_tokens == 512
