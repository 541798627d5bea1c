"""Encoding a shard: rows that cannot be predicted are set aside, and all others keep their places."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.planning.plan import Shard
from batchneuron.rejection import Rejection
from batchneuron.sources.source import FileId, ShardRows, Slice
from batchneuron.spec.template import parse_template
from batchneuron.stages.columns import Columns
from batchneuron.stages.encode import encode
from batchneuron.stages.items import TaskItems
from batchneuron.stages.tokenize import Limit
from tests.backends.arithmetic import make_items

LIMIT = Limit(9, "split")


@dataclass
class WordEncoder:
    """One item per word, its tokens the letters' codes; a row with a word beyond the limit is rejected."""

    seen: list[list[str]] = field(default_factory=list)
    model_limit_tokens: int = 9

    def encode(self, inputs, limit):
        texts = inputs["text"].to_pylist()
        self.seen.append(texts)
        too_long = [any(len(word) > limit.max_tokens for word in text.split()) for text in texts]
        words = [(row, word) for row, text in enumerate(texts) if not too_long[row] for word in text.split()]
        return TaskItems(
            make_items([[ord(letter) for letter in word] for _, word in words], [row for row, _ in words]),
            np.array([text.endswith("!") for text in texts], np.bool_),
            tuple(Rejection(row, "too_long", "a long word") for row in np.flatnonzero(too_long).tolist()),
        )


def make_shard(rows, row_lo=100):
    piece = Slice(FileId("f", 1, "v"), 0, rows, 0, 0)
    return Shard(3, row_lo, (piece,) if rows else ())


def encode_texts(texts, rejections=(), encoder=None):
    table = pa.table({"id": pa.array(range(len(texts)), pa.int64()), "text": pa.array(texts, pa.string())})
    columns = Columns({"text": parse_template("text")}, {"key": "id"})
    rows = ShardRows(table, tuple(rejections))
    return encode(make_shard(len(texts)), rows, columns, encoder or WordEncoder(), LIMIT)


def words_by_row(encoded):
    """What the items say, put back to rows of the shard."""
    found = {}
    ragged = encoded.items.tensors["input_ids"]
    letters = np.split(ragged.values, ragged.offsets[1:-1]) if len(encoded.items) else []
    for codes, accepted in zip(letters, encoded.items.rows, strict=True):
        row = int(encoded.accepted[accepted])
        found[row] = f"{found.get(row, '')} {''.join(map(chr, codes))}".strip()
    return found


def test_a_row_may_have_several_items():
    encoded = encode_texts(["to be", "or", "not to be"])

    assert encoded.items.rows.tolist() == [0, 0, 1, 2, 2, 2]
    assert encoded.accepted.tolist() == [0, 1, 2]
    assert words_by_row(encoded) == {0: "to be", 1: "or", 2: "not to be"}
    assert encoded.kept.to_pydict() == {"key": [0, 1, 2]}
    assert encoded.rejections == ()


@pytest.mark.case(39)
def test_each_way_to_be_rejected_keeps_the_others_in_their_places():
    encoder = WordEncoder()
    broken = Rejection(4, "bad_record", "line 5 is no JSON")

    encoded = encode_texts(["a", None, "b!", "elephantine x", None, "c d", None], [broken], encoder)

    assert encoder.seen == [["a", "b!", "elephantine x", "c d"]]
    assert encoded.accepted.tolist() == [0, 2, 5]
    assert words_by_row(encoded) == {0: "a", 2: "b!", 5: "c d"}
    assert encoded.items.rows.tolist() == [0, 1, 2, 2]
    assert encoded.truncated.tolist() == [False, False, True, False, False, False, False]
    assert {rejection.row: rejection.code for rejection in encoded.rejections} == {
        1: "null_input",
        3: "too_long",
        4: "bad_record",  # and not null_input: the reader knows better why there is nothing
        6: "null_input",
    }
    assert broken in encoded.rejections
    assert len(encoded.rejections) == 4
    assert encoded.kept.num_rows == 7


@given(st.lists(st.sampled_from([None, "bad", "a", "to be", "elephantine", "or not!"]), max_size=12))
def test_every_row_is_accepted_or_rejected_and_never_both(texts):
    bad = [Rejection(row, "bad_record", "") for row, text in enumerate(texts) if text == "bad"]
    given_texts = [None if text == "bad" else text for text in texts]

    encoded = encode_texts(given_texts, bad)

    rejected = {rejection.row: rejection.code for rejection in encoded.rejections}
    codes = {None: "null_input", "bad": "bad_record", "elephantine": "too_long"}
    assert rejected == {row: codes[text] for row, text in enumerate(texts) if text in codes}
    assert words_by_row(encoded) == {row: text for row, text in enumerate(texts) if text not in codes}
    assert sorted([*encoded.accepted.tolist(), *rejected]) == list(range(len(texts)))
    assert encoded.truncated.tolist() == [text == "or not!" for text in texts]


@pytest.mark.case(39)
def test_a_null_in_any_input_counts():
    table = pa.table({"a": ["x", None, "y"], "b": ["p", "q", None]})
    columns = Columns({"text": parse_template("a"), "text_pair": parse_template("b")}, {})

    encoded = encode(make_shard(3), ShardRows(table), columns, WordEncoder(), LIMIT)

    assert encoded.accepted.tolist() == [0]
    assert [(rejection.row, rejection.message) for rejection in encoded.rejections] == [
        (1, "f: record 2: 'text' is null"),
        (2, "f: record 3: 'text_pair' is null"),
    ]


def test_a_rejected_row_is_named_by_its_file_and_its_place_there():
    pieces = (Slice(FileId("a.jsonl", 1, "v"), 7, 9, 0, 0), Slice(FileId("b.parquet", 1, "v"), 0, 3, 0, 0))
    nowhere = Slice(FileId("", 0, ""), 0, 1, 0, 0)
    texts = ["x", None, None, "elephantine", "y", None]
    rows = ShardRows(pa.table({"text": texts}), (), np.array([11, 14, 0, 0, 0, 0]))
    columns = Columns({"text": parse_template("text")}, {})

    encoded = encode(Shard(0, 0, (*pieces, nowhere)), rows, columns, WordEncoder(), LIMIT)

    assert {rejection.row: rejection.message for rejection in encoded.rejections} == {
        1: "a.jsonl: line 14: 'text' is null",
        2: "b.parquet: record 1: 'text' is null",
        3: "b.parquet: record 2: a long word",
        5: "'text' is null",
    }


@pytest.mark.case(39)
def test_an_empty_shard():
    encoded = encode_texts([])

    assert (len(encoded.items), len(encoded.accepted), len(encoded.truncated)) == (0, 0, 0)
    assert encoded.kept.schema == pa.schema([("key", pa.int64())])
