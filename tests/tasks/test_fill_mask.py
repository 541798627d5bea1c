"""fill-mask: which item a mask becomes, targets, and fills worked out by hand."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from batchneuron.errors import ModelError, SpecError
from batchneuron.model import resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages.items import OutputBatch, Outputs
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import open_task
from batchneuron.tasks.fill_mask import FillMask, Options, _count_specials
from tests.tiny import SPECIALS, WORDS, save_tokenizer

ALPHA, BETA, GAMMA, DELTA = range(len(SPECIALS), len(SPECIALS) + 4)
MASK, CLS, SEP = (SPECIALS.index(name) for name in ("[MASK]", "[CLS]", "[SEP]"))


@pytest.fixture
def model(encoder):
    return resolve_model(ModelSpec(id=str(encoder)), "")


@pytest.fixture
def make_task(model):
    return lambda **options: open_task("fill-mask", options, model)


@pytest.fixture
def encode(make_task):
    encoder = make_task().open_encoder()

    def make(texts, max_tokens=48, overflow="truncate"):
        return encoder.encode(pa.table({"text": pa.array(texts, pa.string())}), Limit(max_tokens, overflow))

    return make


def list_items(items):
    """Tokens of each item, and where its mask is."""
    picks = np.arange(len(items))
    longest = max(items.lengths.tolist(), default=1)
    ids, places = (items.make_input(name, picks, longest) for name in ("input_ids", "mask_position"))
    return [
        (row[:length].tolist(), int(place))
        for row, length, place in zip(ids, items.lengths, places[:, 0], strict=True)
    ]


def codes(made):
    return [(rejection.row, rejection.code) for rejection in made.rejections]


def test_a_target_that_is_no_token_is_its_first_one(make_task):
    # Unknown signs are [UNK], as the tokenizer has it; no text has no token.
    assert make_task(targets=["zeta", "alphabeta", "7.5", "", "数"]).target_ids == [
        len(SPECIALS) + WORDS.index("zeta"),
        ALPHA,
        make_task(targets=["7"]).target_ids[0],
        SPECIALS.index("[UNK]"),
    ]


def test_targets_without_any_token_are_refused_before_the_first_row(make_task):
    with pytest.raises(SpecError, match=r"options\.targets"):
        make_task(targets=["", " "]).open_encoder()


@pytest.mark.parametrize("options", [{"top_k": 0}, {"top_k": "all"}, {"targets": []}, {"target": ["a"]}])
def test_senseless_options_are_refused(options):
    with pytest.raises(ValidationError):
        Options.model_validate(options)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path):
    save_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_token": None}))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").touch()
    model = resolve_model(ModelSpec(id=str(tmp_path)), "")

    with pytest.raises(ModelError, match="no mask token"):
        open_task("fill-mask", {}, model).open_encoder()


def test_each_mask_is_an_item(encode):
    made = encode(["alpha [MASK] beta", "[MASK] gamma [MASK]", "[MASK]"])

    assert list_items(made.items) == [
        ([CLS, ALPHA, MASK, BETA, SEP], 2),
        ([CLS, MASK, GAMMA, MASK, SEP], 1),
        ([CLS, MASK, GAMMA, MASK, SEP], 3),
        ([CLS, MASK, SEP], 1),
    ]
    assert made.items.rows.tolist() == [0, 1, 1, 2]
    assert made.rejections == () and not made.truncated.any()


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_a_text_without_a_mask_is_rejected(encode, overflow):
    texts = ["alpha", "", "  \t", "beta [MASK]", "🙂 שלום \0", "delta " * 60, "[ MASK ]"]

    made = encode(texts, overflow=overflow)

    assert codes(made) == [(row, "no_mask") for row in (0, 1, 2, 4, 5, 6)]
    assert list_items(made.items) == [([CLS, BETA, MASK, SEP], 2)]
    assert not made.truncated.any()


def test_a_tokenizer_without_special_tokens(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "bare")
    settings = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**settings, "post_processor": None}))
    task = open_task("fill-mask", {}, resolve_model(ModelSpec(id=str(folder)), ""))

    made = task.open_encoder().encode(pa.table({"text": ["", "alpha [MASK]", " "]}), Limit(8, "split"))

    assert codes(made) == [(0, "no_mask"), (2, "no_mask")]
    assert list_items(made.items) == [([ALPHA, MASK], 1)]
    assert made.items.rows.tolist() == [1]


def test_no_rows_have_no_items(encode):
    made = encode([])

    assert len(made.items) == 0 and made.rejections == () and made.truncated.shape == (0,)


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
def test_a_text_of_exactly_the_limit_is_left_alone(encode, overflow):
    made = encode(["alpha beta [MASK] gamma"], 6, overflow)

    assert list_items(made.items) == [([CLS, ALPHA, BETA, MASK, GAMMA, SEP], 3)]
    assert made.rejections == () and not made.truncated.any()


def test_one_token_more_is_cut(encode):
    made = encode(["alpha beta [MASK] gamma delta", "alpha beta gamma delta [MASK]"], 6)

    assert list_items(made.items) == [([CLS, ALPHA, BETA, MASK, GAMMA, SEP], 3)]
    assert codes(made) == [(1, "too_long")]
    assert "a mask is cut off" in made.rejections[0].message
    assert made.truncated.tolist() == [True, False]


def test_a_text_that_loses_one_of_its_masks_is_rejected(encode):
    made = encode(["[MASK] " + "alpha " * 9 + "[MASK]", "[MASK] [MASK] " + "alpha " * 9], 6)

    assert codes(made) == [(0, "too_long")]
    assert made.items.rows.tolist() == [1, 1]


def test_one_token_more_is_rejected(encode):
    made = encode(["alpha beta [MASK] gamma delta", "[MASK]"], 6, "reject")

    assert codes(made) == [(0, "too_long")]
    assert made.items.rows.tolist() == [1]


@pytest.mark.parametrize(
    ("overflow", "rejected", "places"),
    [("truncate", [1], [2]), ("split", [], [2, 3]), ("reject", [0, 1], [])],
)
def test_texts_of_twenty_times_the_limit(encode, overflow, rejected, places):
    """One with its mask near the beginning, one with its mask near the end."""
    early = "alpha [MASK]" + " beta" * 116
    late = "beta " * 116 + "[MASK] alpha"
    windows = {2: [CLS, ALPHA, MASK, BETA, BETA, SEP], 3: [CLS, BETA, BETA, MASK, ALPHA, SEP]}
    assert encode([early, late], 120).items.lengths.tolist() == [120, 120]

    made = encode([early, late], 6, overflow)

    assert list_items(made.items) == [(windows[place], place) for place in places]
    assert codes(made) == [(row, "too_long") for row in rejected]
    assert made.truncated.tolist() == [overflow == "truncate", False]


def test_split_puts_each_mask_into_the_middle_of_its_own_window(encode):
    words = ["alpha", "beta", "gamma", "delta"] * 30
    for place in (0, 50, 119):
        words[place] = "[MASK]"

    made = encode(["[MASK]", " ".join(words)], 6, "split")

    assert list_items(made.items)[1:] == [
        ([CLS, MASK, BETA, GAMMA, DELTA, SEP], 1),
        ([CLS, ALPHA, BETA, MASK, DELTA, SEP], 3),
        ([CLS, ALPHA, BETA, GAMMA, MASK, SEP], 4),
    ]
    assert made.items.rows.tolist() == [0, 1, 1, 1]
    assert made.rejections == () and not made.truncated.any()


def test_a_shape_with_room_for_special_tokens_alone_fits_no_mask(encode):
    assert codes(encode(["[MASK]"], 2, "split")) == [(0, "too_long")]
    assert list_items(encode(["alpha [MASK]"], 3, "split").items) == [([CLS, MASK, SEP], 1)]


def test_special_tokens_are_counted_even_where_a_mask_brings_a_space_along():
    ids = {"": [0, 9, 2], "<mask>": [0, 5, 7, 9, 2]}

    def tokenizer(text):
        return {"input_ids": ids[text]}

    tokenizer.mask_token = "<mask>"
    assert _count_specials(tokenizer) == (1, 2)


def decode(task, made, rows, *tensors):
    """`fills` for these outputs, whose items come from the device in reverse order."""
    order = np.arange(len(made.items))[::-1]
    outputs = Outputs(len(made.items), (OutputBatch(order, tuple(tensor[order] for tensor in tensors)),))
    decoded = task.decode(made.items, rows, outputs)
    assert decoded.columns.schema == task.schema
    assert decoded.rejections == ()
    return decoded.columns["fills"].to_pylist()


def test_fills(make_task, encode):
    made = encode(["alpha [MASK].", "[MASK] [PAD] [MASK]"])
    scores = np.array([[0.75, 0.125], [0.5, 0.25], [0.625, 0.0]], np.float32)
    tokens = np.array([[BETA, GAMMA], [DELTA, CLS], [ALPHA, SPECIALS.index("[PAD]")]], np.int32)

    fills = decode(make_task(top_k=2), made, 2, scores, tokens)

    names = ("score", "token", "token_str", "sequence")
    values = [[[tuple(one[name] for name in names) for one in mask] for mask in row] for row in fills]
    assert values == [
        [[(0.75, BETA, "beta", "alpha beta ."), (0.125, GAMMA, "gamma", "alpha gamma .")]],
        [
            [
                (0.5, DELTA, "delta", "[CLS] delta [MASK] [SEP]"),
                (0.25, CLS, "[CLS]", "[CLS] [CLS] [MASK] [SEP]"),
            ],
            [
                (0.625, ALPHA, "alpha", "[CLS] [MASK] alpha [SEP]"),
                (0.0, 0, "[PAD]", "[CLS] [MASK] [SEP]"),
            ],
        ],
    ]


def test_the_schema_is_a_list_of_lists(make_task):
    struct = pa.struct(
        [
            ("score", pa.float32()),
            ("token", pa.int32()),
            ("token_str", pa.string()),
            ("sequence", pa.string()),
        ]
    )
    assert make_task().schema == pa.schema([("fills", pa.list_(pa.list_(struct)))])


@pytest.mark.parametrize(
    ("top_k", "words"), [(1, ["delta"]), (2, ["delta", "beta"]), (9, ["delta", "beta", "mu"])]
)
def test_targets_are_ranked_and_equal_ones_keep_their_order(top_k, words, make_task, encode):
    task = make_task(top_k=top_k, targets=["beta", "mu", "delta"])

    ((fills,),) = decode(task, encode(["[MASK]"]), 1, np.array([[0.25, 0.25, 0.5]], np.float32))

    assert [one["token_str"] for one in fills] == words
    assert [one["score"] for one in fills] == [0.5, 0.25, 0.25][:top_k]


def test_a_text_that_was_split_is_filled_as_a_whole(make_task, encode):
    text = " ".join(["alpha"] * 20 + ["[MASK]"] + ["beta"] * 20)

    ((fills,),) = decode(
        make_task(),
        encode([text], 8, "split"),
        1,
        np.array([[1.0]], np.float32),
        np.array([[GAMMA]], np.int32),
    )

    assert fills[0]["sequence"] == text.replace("[MASK]", "gamma")


def test_a_task_reads_the_tokenizer_once(make_task, monkeypatch):
    task = make_task()

    assert isinstance(task, FillMask)
    assert task.tokenizer is task.tokenizer
