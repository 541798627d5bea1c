"""token-classification: units, spans, places and windows, against answers worked out by hand."""

import json
import shutil
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
from batchneuron.tasks.entities import merge_windows
from tests.tiny import MAX_POSITIONS, WORDS

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
CONFIG = {"id2label": {str(number): name for number, name in enumerate(LABELS)}}
LIMIT = Limit(12, "truncate")  # ten tokens of a text
# What the model of these tests says of a token: its likeliest class, and the class's score.
SAYS = {"alpha": (1, 0.9), "beta": (2, 0.7), "gamma": (3, 0.8), "delta": (4, 0.6)}
SAYS |= {"z": (1, 0.5), "##z": (4, 0.8)}


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """The tiny model's folder, its tokenizer with a decoder."""
    folder = shutil.copytree(encoder, tmp_path_factory.mktemp("tagger") / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


@pytest.fixture(scope="module")
def make_task(folder):
    """A function that opens the task with these options over the tiny tokenizer."""

    def make(**options):
        return open_task("token-classification", options, make_model(folder))

    return make


def make_model(folder, config=CONFIG):
    return Model("m", folder, None, "0", config, False, None)


def make_column(values):
    is_words = bool(values) and isinstance(values[0], list)
    return pa.table({"text": pa.array(values, None if is_words else pa.string())})


def score(tokens):
    """Scores of tokens, as `SAYS` has them; what it does not know is outside with 0.9: float32 [L, C]."""
    scores = np.zeros((len(tokens), len(LABELS)), np.float32)
    for place, token in enumerate(tokens):
        best, value = SAYS.get(token, (0, 0.9))
        scores[place] = (1 - value) / (len(LABELS) - 1)
        scores[place, best] = value
    return scores


def run(task, texts, limit=LIMIT, broken=()):
    """Entities of each text that is predicted, and what encoding made of them."""
    encoder = task.open_encoder()
    made = encoder.encode(make_column(texts), limit)
    # As the encode stage counts: only rows that have items.
    items = replace(made.items, rows=np.unique(made.items.rows, return_inverse=True)[1])
    names = encoder.tokenizer.transformers_tokenizer.convert_ids_to_tokens
    ids = np.split(items.tensors["input_ids"].values, items.tensors["input_ids"].offsets[1:-1])
    batches = []
    for picks in (np.arange(len(items))[1::2], np.arange(len(items))[::2]):
        length = int(items.lengths[picks].max(initial=0)) + 3
        scores = np.full((len(picks), length, len(LABELS)), 0.25, np.float32)
        for place, pick in enumerate(picks):
            scores[place, : items.lengths[pick]] = score(names(ids[pick].tolist()))
            if pick in broken:
                scores[place] = np.nan
        if len(picks):
            batches.append(OutputBatch(picks, (scores,)))
    rows = len(set(items.rows.tolist()))
    columns = task.decode(items, rows, Outputs(len(items), tuple(batches))).columns
    assert columns.schema == task.schema
    return columns["entities"].to_pylist(), made


def brief(entities):
    """(name, word, start, end) of each."""
    names = [one.get("entity_group", one.get("entity")) for one in entities]
    words = [(one["word"], one["start"], one["end"]) for one in entities]
    return [(name, *word) for name, word in zip(names, words, strict=True)]


def test_tokens_one_by_one(make_task):
    ((first, second, third, fourth),), _ = run(make_task(), ["mu alpha, beta zz"])

    expected = {"entity": "B-PER", "index": 2, "word": "alpha", "start": 3, "end": 8}
    assert {name: first[name] for name in expected} == expected
    assert first["score"] == np.float32(0.9)
    assert (second["entity"], second["index"], second["word"]) == ("I-PER", 4, "beta")
    assert (third["entity"], third["word"], third["start"]) == ("B-PER", "z", 15)
    assert (fourth["entity"], fourth["word"], fourth["start"]) == ("I-LOC", "##z", 16)


def test_neighbours_of_one_tag_are_joined_and_a_beginning_parts_them(make_task):
    task = make_task(aggregation_strategy="simple")

    (found,), _ = run(task, ["alpha beta beta alpha mu gamma delta"])

    assert brief(found) == [
        ("PER", "alpha beta beta", 0, 15),
        ("PER", "alpha", 16, 21),
        ("LOC", "gamma delta", 25, 36),
    ]
    assert [one["score"] for one in found] == pytest.approx([(0.9 + 0.7 + 0.7) / 3, 0.9, 0.7])
    assert "index" not in found[0]


@pytest.mark.parametrize(
    ("strategy", "entities"),
    [
        ("simple", [("PER", "z", 3, 4), ("LOC", "##z", 4, 5)]),
        ("first", [("PER", "zz", 3, 5)]),
        ("max", [("LOC", "zz", 3, 5)]),
        ("average", [("LOC", "zz", 3, 5)]),
    ],
)
def test_the_tokens_of_a_word_agree(strategy, entities, make_task):
    (found,), _ = run(make_task(aggregation_strategy=strategy), ["mu zz mu"])

    assert brief(found) == entities


@pytest.mark.parametrize(
    ("strategy", "expected"), [("first", 0.5), ("max", 0.8), ("average", (0.125 + 0.8) / 2)]
)
def test_the_score_of_a_word(strategy, expected, make_task):
    ((one,),), _ = run(make_task(aggregation_strategy=strategy), ["zz"])

    assert one["score"] == pytest.approx(expected)


def test_labels_are_ignored_by_the_name_that_is_shown(make_task):
    def names(**options):
        (entities,), _ = run(make_task(**options), ["mu alpha beta"])
        return [name for name, *_ in brief(entities)]

    assert names(ignore_labels=[]) == ["O", "B-PER", "I-PER"]
    assert names(ignore_labels=["B-PER"]) == ["O", "I-PER"]
    assert names(ignore_labels=["PER"], aggregation_strategy="simple") == ["O"]


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("texts", [[""], [" \n\t"], ["\x00"], ["mu"], ["", "alpha", " "], ["mu", ""]])
def test_texts_with_nothing_in_them(strategy, texts, make_task):
    entities, _ = run(make_task(aggregation_strategy=strategy), texts)

    assert [len(row) for row in entities] == [text.count("alpha") for text in texts]


@pytest.mark.parametrize("strategy", ["none", "simple", "average"])
@pytest.mark.parametrize("before", ["🦜🦜 ", "é ", "שלום ", "\x00", "東京", "e\u0301 ", "\u200f"])
def test_places_count_characters(before, strategy, make_task):
    text = f"{before}alpha"

    ((one,),), _ = run(make_task(aggregation_strategy=strategy), [text])

    assert text[one["start"] : one["end"]] == one["word"] == "alpha"
    assert one["start"] == len(before)


def test_an_unknown_token_reads_as_it_stands_in_the_text(make_task):
    ((first, second),), _ = run(make_task(ignore_labels=[]), ["🦜 mu"])

    assert (first["word"], first["start"], first["end"], second["word"]) == ("🦜", 0, 1, "mu")


def fill(words):
    """A text of so many tokens, ending with an entity."""
    return " ".join(["mu"] * (words - 1) + ["alpha"])


@pytest.mark.parametrize("words", [1, 10, 11, 200])
@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
def test_a_text_at_the_limit_and_beyond(words, strategy, make_task):
    task, text = make_task(aggregation_strategy=strategy), fill(words)
    is_long = words > 10
    expected = [("B-PER" if strategy == "none" else "PER", "alpha", len(text) - 5, len(text))]

    (cut, other), made = run(task, [text, "alpha"])
    assert (brief(cut), len(other)) == ([] if is_long else expected, 1)
    assert made.truncated.tolist() == [is_long, False]

    (whole, _), made = run(task, [text, "alpha"], Limit(12, "split"))
    assert brief(whole) == expected
    assert not made.truncated.any()
    assert made.items.lengths.max() <= 12

    kept, made = run(task, [text, "alpha"], Limit(12, "reject"))
    assert len(kept) == 2 - is_long
    assert [(one.row, one.code) for one in made.rejections] == [(0, "too_long")] * is_long


def test_the_index_goes_on_through_windows(make_task):
    ((one,),), made = run(make_task(), [fill(25)], Limit(12, "split"))

    assert one["index"] == 25
    assert made.items.lengths.tolist() == [12, 12, 7]


def test_windows_share_the_stride(make_task):
    task = make_task(aggregation_strategy="simple", stride=4)

    ((one,),), made = run(task, ["mu mu mu mu mu mu mu alpha beta beta beta mu mu mu"], Limit(12, "split"))

    assert made.items.lengths.tolist() == [12, 10]  # the second begins with the seventh token
    assert one["word"] == "alpha beta beta beta"


def test_an_entity_in_two_windows_is_the_longer_one(make_task):
    task = make_task(aggregation_strategy="simple", stride=2)

    ((one,),), _ = run(task, [" ".join(["mu"] * 8 + ["alpha", "beta", "beta", "mu"])], Limit(12, "split"))

    assert one["word"] == "alpha beta beta"


@pytest.mark.parametrize(
    ("spans", "kept"),
    [
        ([], []),
        ([(0, 0, 5, 0.5)], [0]),
        ([(0, 0, 5, 0.5), (0, 3, 9, 0.1)], [1]),
        ([(0, 0, 5, 0.5), (0, 3, 8, 0.4)], [0]),
        ([(0, 0, 5, 0.5), (0, 3, 8, 0.6)], [1]),
        ([(0, 0, 5, 0.5), (0, 5, 8, 0.6)], [0, 1]),
        ([(0, 0, 5, 0.5), (1, 3, 9, 0.6)], [0, 1]),
        ([(0, 6, 9, 0.5), (0, 0, 2, 0.6)], [1, 0]),
        ([(0, 0, 3, 0.5), (0, 2, 6, 0.5), (0, 5, 7, 0.9)], [1]),
    ],
)
def test_overlaps(spans, kept):
    rows, starts, ends, scores = np.array(spans).reshape(-1, 4).T

    assert merge_windows(rows, starts, ends, scores).tolist() == kept


def test_lists_of_words_have_places_in_the_joined_text(make_task):
    task = make_task(is_split_into_words=True, aggregation_strategy="simple", delimiter=", ")

    entities, _ = run(task, [["mu", "alpha beta", "beta"], [], [None, "alpha"], [""]])

    first, *others = [brief(row) for row in entities]
    assert first == [("PER", "alpha beta beta", 4, 20)]
    assert others == [[], [("PER", "alpha", 2, 7)], []]


def test_a_text_is_split_at_the_delimiter(make_task):
    entities, _ = run(make_task(is_split_into_words=True, delimiter="|"), ["mu|alpha|", ""])

    assert [brief(row) for row in entities] == [[("B-PER", "alpha", 3, 8)], []]


def test_a_row_of_nan_leaves_the_others_alone(make_task):
    for strategy in ["none", "simple", "max"]:
        entities, _ = run(make_task(aggregation_strategy=strategy), ["alpha", "mu beta", "gamma"], broken=[1])
        assert (len(entities[0]), len(entities[2])) == (1, 1)


def test_scores_leave_the_device_as_single_precision_softmax(make_task):
    logits = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]], dtype=torch.bfloat16)

    (scores,) = make_task().head(lambda **inputs: SimpleNamespace(logits=logits), {})

    assert scores.dtype == torch.float32
    assert np.allclose(scores[0, 1], 0.5) and np.allclose(scores.sum(-1), 1)


def test_classes_without_a_name_are_refused(encoder):
    config = {"id2label": {"0": "O"}}
    task = open_task("token-classification", {}, make_model(encoder, config))

    with pytest.raises(ModelError, match="5 classes and names 1"):
        run(task, ["alpha"])


def test_an_overlap_needs_a_way_to_agree(make_task):
    with pytest.raises(ValueError, match="two windows need a way to agree: choose an aggregation_strategy"):
        make_task(stride=4)
    assert make_task(stride=0)


@pytest.mark.parametrize("limit", [Limit(6, "split"), Limit(2, "truncate")])
def test_a_limit_without_room_is_refused(limit, make_task):
    task = make_task(aggregation_strategy="simple", stride=4)

    with pytest.raises(SpecError, match="tokens, and"):
        task.open_encoder().encode(make_column(["mu"]), limit)


@pytest.mark.parametrize(
    "options", [{"aggregation_strategy": "last"}, {"stride": -1}, {"delimiter": ""}, {"k": 1}]
)
def test_options_are_checked(options, make_task):
    with pytest.raises(ValidationError):
        make_task(**options)


@pytest.fixture
def slow_model(encoder, tmp_path, monkeypatch):
    """A model whose tokenizer is one written in Python."""
    from transformers import AutoTokenizer
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    vocabulary = json.loads((encoder / "tokenizer.json").read_text())["model"]["vocab"]
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    slow = BertTokenizerLegacy(str(tmp_path / "vocab.txt"), model_max_length=MAX_POSITIONS)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: slow)
    return make_model(encoder)


@pytest.mark.parametrize("strategy", ["none", "simple"])
def test_without_a_fast_tokenizer_there_are_no_places(strategy, slow_model):
    task = open_task("token-classification", {"aggregation_strategy": strategy}, slow_model)

    (found, cut), made = run(task, ["mu alpha beta mu", fill(20)])

    name = "I-PER" if strategy == "none" else "PER"
    assert brief(found)[-1] == (name, "beta" if strategy == "none" else "alpha beta", None, None)
    assert (cut, made.truncated.tolist()) == ([], [False, True])
    with pytest.raises(ModelError, match="fast tokenizer"):
        run(task, ["mu"], Limit(12, "split"))


@pytest.mark.parametrize("options", [{"aggregation_strategy": "first"}, {"is_split_into_words": True}])
def test_words_need_a_fast_tokenizer(options, slow_model):
    with pytest.raises(ModelError, match="not a fast one"):
        open_task("token-classification", options, slow_model).open_encoder()


def test_the_tokenizer_of_these_tests_knows_its_words(make_task):
    tokenizer = make_task().open_encoder().tokenizer.transformers_tokenizer
    tokens = tokenizer.backend_tokenizer.encode("alpha zz", add_special_tokens=False).tokens
    assert tokens == ["alpha", "z", "##z"] and set(SAYS) - {"z", "##z"} <= set(WORDS)


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
@pytest.mark.parametrize("options", [{}, {"aggregation_strategy": "max"}, {"is_split_into_words": True}])
def test_no_rows_at_all(options, overflow, make_task):
    made = make_task(**options).open_encoder().encode(make_column([]), Limit(12, overflow))

    assert (len(made.items), len(made.truncated), made.rejections) == (0, 0, ())


def test_no_rows_without_a_fast_tokenizer(slow_model):
    task = open_task("token-classification", {}, slow_model)

    assert len(task.open_encoder().encode(make_column([]), LIMIT).items) == 0


def test_a_tokenizer_that_cuts_at_the_left_keeps_the_end(make_task):
    encoder = make_task().open_encoder()
    encoder.tokenizer.transformers_tokenizer.truncation_side = "left"

    made = encoder.encode(make_column(["mu " * 10 + "alpha"]), LIMIT)

    ids = made.items.tensors["input_ids"].values.tolist()
    names = encoder.tokenizer.transformers_tokenizer.convert_ids_to_tokens(ids)
    assert names == ["[CLS]", *["mu"] * 9, "alpha", "[SEP]"]
    assert made.truncated.tolist() == [True]
