"""Tokenizers without transformers: everything that tasks ask of one is what transformers' own answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from batchneuron.model import resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages.fast_tokenizer import FastTokenizer, TokenizerFacts, open_tokenizer
from batchneuron.user_cache import user_cache
from tests import tiny
from tests.faults.harness import MODEL
from tests.parity import record_answers

WORDS = [
    "alpha",
    "Beta,",
    "don ' t",
    "x.",
    "é 東京",
    "🦜",
    "[MASK]",
    "[SEP]",
    "  ",
    "\n",
    "\u200b",
    "can n't !",
]
texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
KINDS = ["wordpiece", "byte level", "quickstart", "unigram", "cleaning"]


def save_folder(kind: str, folder: Path) -> Path:
    """A folder with a tokenizer of that kind, and a model's configuration."""
    if kind == "quickstart":
        return shutil.copytree(MODEL, folder)
    tiny.save_bert(folder)
    if kind == "byte level":
        record_answers.save_tokenizer(folder, "roberta")
    if kind == "unigram":
        save_unigram(folder)
    if kind == "cleaning":
        made = AutoTokenizer.from_pretrained(folder)
        made.clean_up_tokenization_spaces = True
        made.truncation_side = made.padding_side = "left"
        made.save_pretrained(folder)
    return folder


def save_unigram(folder: Path) -> None:
    """As XLM-RoBERTa has it: pieces with a mark for the space before them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁alpha", -1.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((letter, -5.0) for letter in "abeht.,'é")], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def open_model(folder):
    return resolve_model(ModelSpec(id=str(folder)), "")


@pytest.fixture(scope="module", params=KINDS)
def both(request, tmp_path_factory):
    """Ours, read back from the cache, and transformers' own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    model = open_model(save_folder(request.param, tmp_path_factory.mktemp("models") / "model"))
    ours = [open_tokenizer(model) for _ in range(2)][1]
    patch.undo()
    return ours, AutoTokenizer.from_pretrained(model.folder)


def test_it_knows_what_transformers_knows(both):
    ours, theirs = both

    assert isinstance(ours, FastTokenizer)
    for name in TokenizerFacts.__dataclass_fields__.keys() - {"cleans_up", "model_input_names"}:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.model_input_names) == list(theirs.model_input_names)
    assert ours.is_fast and theirs.is_fast
    assert ours.get_vocab() == theirs.get_vocab()
    assert [ours.num_special_tokens_to_add(pair) for pair in (False, True)] == [
        theirs.num_special_tokens_to_add(pair) for pair in (False, True)
    ]
    with pytest.raises(AttributeError, match="no_such_fact"):
        _ = ours.no_such_fact


@settings(max_examples=40)
@given(first=texts, second=st.none() | texts)
def test_it_encodes_as_transformers_does_in_a_batch(both, first, second):
    """Where an empty second text is one; in a call with a single text it is none."""
    ours, theirs = both
    batch = ([first], None if second is None else [second])
    for how in ({}, {"add_special_tokens": False}, {"return_token_type_ids": True}):
        made, expected = ours(first, second, **how), theirs(*batch, verbose=False, **how)
        assert made == {name: expected[name][0] for name in made}
        assert "token_type_ids" not in expected or "token_type_ids" in made


@settings(max_examples=40)
@given(first=texts, second=st.none() | texts, overflows=st.booleans())
def test_it_cuts_as_transformers_does(both, first, second, overflows):
    ours, theirs = both
    batch = ([first], None if second is None else [second])
    how = {"max_length": 7, "return_overflowing_tokens": overflows, "return_token_type_ids": True}

    made = ours(first, second, truncation="longest_first", **how)
    expected = theirs(*batch, truncation="longest_first", verbose=False, **how)

    windows = expected["input_ids"]
    assert made["input_ids"] == (windows if overflows else windows[0])
    assert ours(first)["input_ids"] == theirs(first, verbose=False)["input_ids"], "a limit was left behind"


@settings(max_examples=40)
@given(text=texts, skips=st.booleans())
def test_it_writes_text_as_transformers_does(both, text, skips):
    ours, theirs = both
    ids = theirs(text, verbose=False)["input_ids"]
    names = theirs.convert_ids_to_tokens(ids)

    assert ours.convert_ids_to_tokens(ids) == names
    assert ours.convert_tokens_to_string(names) == theirs.convert_tokens_to_string(names)
    assert ours.batch_decode([ids, ids[:1]], skip_special_tokens=skips) == theirs.batch_decode(
        [ids, ids[:1]], skip_special_tokens=skips
    )


def list_entries():
    return list((user_cache() / "tokenizers").glob("*"))


def test_a_tokenizer_in_python_is_transformers_own_every_time(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    ByT5Tokenizer().save_pretrained(folder)

    opened = open_tokenizer(open_model(folder))

    assert isinstance(opened, ByT5Tokenizer)
    assert list_entries() == []


def test_an_entry_that_is_not_whole_is_made_again(encoder):
    open_tokenizer(open_model(encoder))
    (entry,) = list_entries()
    whole = entry.read_text()

    for broken in ("", whole[:100], "{}"):
        entry.write_text(broken)
        assert open_tokenizer(open_model(encoder))("alpha")["input_ids"] == [2, 5, 3]
        assert entry.read_text() == whole
    assert list_entries() == [entry]


def test_another_tokenizer_in_the_same_folder_is_another_entry(encoder, tmp_path):
    folder = shutil.copytree(encoder, tmp_path / "model")
    before = open_tokenizer(open_model(folder))("alpha")["input_ids"]
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace('"alpha": 5', '"alpha": 6').replace('"beta": 6', '"beta": 5'))

    assert open_tokenizer(open_model(folder))("alpha")["input_ids"] == [2, 6, 3] != before
    assert len(list_entries()) == 2


def test_a_cache_that_cannot_be_written_is_done_without(encoder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert open_tokenizer(open_model(encoder))("alpha")["input_ids"] == [2, 5, 3]
