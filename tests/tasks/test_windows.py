"""Rows are tokenised a chunk at a time: what comes out is the same, and few encodings are held at once."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest

from batchneuron.model import Model
from batchneuron.stages.tokenize import CHUNK_ROWS, Limit, Tokenizer
from batchneuron.tasks import answer_encoder, entity_encoder, open_task, windows, zero_shot_classification
from batchneuron.tasks.windows import Tokens, chunk_rows, join_tokens, to_bounds

LONG = "alpha beta gamma delta " * 9
TEXTS = ["alpha", LONG, "", "beta zz", LONG + "mu", "gamma", "zz " * 40, "delta beta"] * 2
LABELS = {"id2label": {"0": "O", "1": "B-PER"}, "label2id": {"contradiction": 0, "entailment": 1}}
TASKS = {
    "question-answering": {},
    "token-classification": {"aggregation_strategy": "first"},
    "zero-shot-classification": {"candidate_labels": ["mu", "zz zz", "iota"], "hypothesis_template": "{}"},
}
_SIZES = ((windows, "CHUNK_ROWS"), (zero_shot_classification, "CHUNK_ROWS"))


def make_tokens(*lengths, first=0):
    count = sum(lengths)
    facts = [np.arange(first, first + count, dtype=np.int32) + 100 * number for number in range(6)]
    return Tokens(*facts, to_bounds(np.array(lengths, np.int64)))


@pytest.fixture
def encode(encoder):
    """What a task makes of texts, for each name of a task."""

    def make(name, texts, limit):
        encode = open_task(name, TASKS[name], Model("m", encoder, None, "0", LABELS, False, None))
        columns = {"text": texts, "question": ["iota"] * len(texts), "context": texts}
        return encode.open_encoder().encode(
            pa.table({key: pa.array(values, pa.string()) for key, values in columns.items()}), limit
        )

    return make


def list_facts(made):
    """All of the arrays, as lists."""
    items = made.items
    tensors = {name: (each.values.tolist(), each.offsets.tolist()) for name, each in items.tensors.items()}
    return items.rows.tolist(), items.lengths.tolist(), tensors, made.truncated.tolist(), made.rejections


def list_layout(host):
    if "pair" in host:
        return host["pair"].tolist(), host["labels"]
    tokens = host["layout"].tokens
    return [getattr(tokens, fact.name).tolist() for fact in fields(tokens)]


@pytest.mark.parametrize("overflow", ["truncate", "split", "reject"])
@pytest.mark.parametrize("name", TASKS)
def test_rows_in_chunks_are_the_rows(name, overflow, encode, monkeypatch):
    limit = Limit(14, overflow)
    whole = encode(name, TEXTS, limit)
    for module, size in _SIZES:
        monkeypatch.setattr(module, size, 3)

    chunked = encode(name, TEXTS, limit)

    assert list_facts(chunked)[:-1] == list_facts(whole)[:-1]
    assert sorted(chunked.rejections, key=str) == sorted(whole.rejections, key=str)
    assert list_layout(chunked.items.host) == list_layout(whole.items.host)
    assert len(whole.items) and whole.items.lengths.max() <= limit.max_tokens


@pytest.mark.parametrize("name", TASKS)
def test_no_more_than_a_chunk_is_held_at_its_full_length(name, encode, monkeypatch):
    held = []
    for module in (answer_encoder, entity_encoder):
        monkeypatch.setattr(module, "read_tokens", lambda given: held.append(len(given)) or read(given))
    tokenize, read = Tokenizer.encode, windows.read_tokens
    monkeypatch.setattr(Tokenizer, "encode", lambda *given: held.append(len(given[1])) or tokenize(*given))
    count = 2 * CHUNK_ROWS + 5

    made = encode(name, ["alpha beta"] * count, Limit(14, "truncate"))

    assert len(set(made.items.rows.tolist())) == count
    assert max(held) <= CHUNK_ROWS < sum(held)


def test_tokens_are_joined_in_order():
    joined = join_tokens([make_tokens(2, 0), make_tokens(), make_tokens(1, 3, first=2)])

    whole = make_tokens(2, 0, 1, 3)
    for fact in fields(Tokens):
        found = getattr(joined, fact.name)
        assert found.tolist() == getattr(whole, fact.name).tolist()
        assert found.dtype == getattr(whole, fact.name).dtype


@pytest.mark.parametrize("rows", [0, 1, CHUNK_ROWS, CHUNK_ROWS + 1])
def test_chunks_hold_every_row_once(rows):
    chunks = list(chunk_rows(range(rows), range(rows, 2 * rows)))

    assert [row for chunk, _ in chunks for row in chunk] == list(range(rows))
    assert [row for _, chunk in chunks for row in chunk] == list(range(rows, 2 * rows))
    assert len(chunks) == max(1, -(-rows // CHUNK_ROWS))
