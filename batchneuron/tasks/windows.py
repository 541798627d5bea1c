"""Windows: the tokens of texts with their places, cut where a text is longer than an item.

For tasks that answer with places in a text. Everything is flat: one array per fact over the T tokens of
all sequences, and the bounds of the sequences; a sequence is a row, or a window of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchneuron.errors import Problem, SpecError
from batchneuron.rejection import Rejection
from batchneuron.stages.items import Items, OutputBatch, Ragged
from batchneuron.stages.tokenize import CHUNK_ROWS, Limit, Tokenizer

Ints = NDArray[np.int32]
Places = NDArray[np.int64]
_ADDED = -1  # a token that the tokenizer added around the texts


@dataclass(frozen=True, slots=True)
class Tokens:
    """T tokens of N sequences."""

    ids: Ints
    """[T], as all the facts below"""
    types: Ints
    starts: Ints
    """First character of the token in its text"""
    ends: Ints
    """One past its last character"""
    words: Ints
    """Which word of its text it is a part of; -1 for none"""
    texts: Ints
    """Which of a row's texts it is from, 0 or 1; -1 where the tokenizer added it"""
    bounds: Places
    """Where each sequence begins, and T: [N + 1]"""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each sequence: [N]."""
        return np.diff(self.bounds).astype(np.int32)

    @property
    def owners(self) -> Places:
        """Which sequence each token is in: [T]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def pick(self, places: Places, lengths: NDArray[Any]) -> Tokens:
        """The tokens at these places, as sequences of these lengths."""
        return Tokens(
            ids=self.ids[places],
            types=self.types[places],
            starts=self.starts[places],
            ends=self.ends[places],
            words=self.words[places],
            texts=self.texts[places],
            bounds=to_bounds(lengths),
        )

    def keep(self, rows: Places) -> Tokens:
        """These sequences of them."""
        lengths = self.lengths[rows].astype(np.int64)
        return self.pick(expand(self.bounds[rows], lengths), lengths)

    def find_text(self, text: int) -> tuple[Places, Places]:
        """Where the tokens of a text begin and end in each sequence: [N] each; the same where it has none."""
        places = np.flatnonzero(self.texts == text)
        owners = self.owners[places]
        counts = np.bincount(owners, minlength=len(self))
        heads = np.append(places, 0)[np.searchsorted(owners, np.arange(len(self)))]
        firsts = np.where(counts > 0, heads, self.bounds[1:])
        return firsts, firsts + counts


@dataclass(frozen=True, slots=True)
class Cut:
    """Windows over some rows."""

    tokens: Tokens
    """N windows, in row order"""
    rows: Places
    """Which row each window is of: [N]"""


def read_tokens(encodings: Sequence[Any]) -> Tokens:
    """The tokens of N encodings of a fast tokenizer, at their full length."""
    return Tokens(
        ids=_flatten(encoding.ids for encoding in encodings),
        types=_flatten(encoding.type_ids for encoding in encodings),
        starts=_flatten((start for start, _ in encoding.offsets) for encoding in encodings),
        ends=_flatten((end for _, end in encoding.offsets) for encoding in encodings),
        words=_flatten(map(_number, encoding.word_ids) for encoding in encodings),
        texts=_flatten(map(_number, encoding.sequence_ids) for encoding in encodings),
        bounds=to_bounds(np.fromiter((len(encoding) for encoding in encodings), np.int64, len(encodings))),
    )


def read_slow_tokens(rows: Sequence[Any]) -> Tokens:
    """The tokens of N encodings of a tokenizer written in Python, which knows no places and no words."""
    counts = np.fromiter((len(row["input_ids"]) for row in rows), np.int64, len(rows))
    ids = _flatten(row["input_ids"] for row in rows)
    nowhere = np.zeros_like(ids)
    types = _flatten(row.get("token_type_ids", [0] * len(row["input_ids"])) for row in rows)
    added = _flatten(row["special_tokens_mask"] for row in rows)
    return Tokens(ids, types, nowhere, nowhere, nowhere, added * _ADDED, to_bounds(counts))


def join_tokens(parts: Sequence[Tokens]) -> Tokens:
    """The sequences of all parts, in order; at least one part."""
    facts = {fact.name: [getattr(part, fact.name) for part in parts] for fact in fields(Tokens)}
    lengths = np.concatenate([np.diff(bounds) for bounds in facts.pop("bounds")])
    return Tokens(
        **{name: np.concatenate(arrays) for name, arrays in facts.items()}, bounds=to_bounds(lengths)
    )


def chunk_rows(*columns: Sequence[Any]) -> Iterator[tuple[Sequence[Any], ...]]:
    """Columns of N rows, so many rows at a time that their encodings are not much; once where there are none.

    An encoding takes about 160 bytes a token, of which `Tokens` keep 24.
    """
    for start in range(0, max(1, len(columns[0])), CHUNK_ROWS):
        yield tuple(column[start : start + CHUNK_ROWS] for column in columns)


def cut_windows(tokens: Tokens, text: int, max_tokens: int, strides: NDArray[np.int64]) -> Cut:
    """Windows over one of each row's texts; the row's other tokens are repeated in each of them.

    Windows as tokenizers cut them: all but the last are full, and begin `room - stride` tokens apart.

    Args:
        tokens: N rows; every row has room for a token of the text, and more room than its stride.
        text: the text that is cut.
        max_tokens: tokens of the longest window.
        strides: tokens that neighbouring windows of a row share: [N].
    """
    first, last = tokens.find_text(text)
    room = max_tokens - (tokens.lengths - (last - first))
    steps = np.maximum(room - strides, 1)
    counts = 1 + -(-np.maximum(last - first - room, 0) // steps)
    rows = np.repeat(np.arange(len(tokens), dtype=np.int64), counts)
    begins = (
        first[rows] + (np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)) * steps[rows]
    )
    return _assemble(
        tokens, rows, (first[rows], begins, np.minimum(begins + room[rows], last[rows]), last[rows])
    )


def cut_ends(tokens: Tokens, max_tokens: int, side: str) -> Cut:
    """Each row's first text cut to fit, at its right or its left end."""
    first, last = tokens.find_text(0)
    surplus = np.maximum(tokens.lengths - max_tokens, 0)
    begins, ends = (first + surplus, last) if side == "left" else (first, last - surplus)
    return _assemble(tokens, np.arange(len(tokens), dtype=np.int64), (first, begins, ends, last))


def drop(tokens: Tokens, mask: NDArray[np.bool_]) -> Tokens:
    """The sequences without the tokens of the mask, [T]."""
    lengths = np.bincount(tokens.owners[~mask], minlength=len(tokens))
    return tokens.pick(np.flatnonzero(~mask), lengths)


def reject_long(tokens: Tokens, refused: NDArray[np.bool_], limit: Limit) -> tuple[Rejection, ...]:
    """One rejection for each of these rows."""
    lengths = tokens.lengths
    message = f"tokens, and the longest shape holds {limit.max_tokens}"
    return tuple(
        Rejection(int(row), "too_long", f"{lengths[row]} {message}") for row in np.flatnonzero(refused)
    )


def require_room(limit: Limit, added: int) -> None:
    """Refuse a limit that the tokenizer's own tokens fill.

    Raises:
        SpecError: no token of a text would fit.
    """
    if limit.max_tokens <= added:
        what = f"{limit.max_tokens} tokens, and the tokenizer adds {added} of its own"
        raise SpecError((Problem("spec", "shapes.max_length", what, "choose a longer one"),))


def make_items(tokenizer: Tokenizer, cut: Cut, **host: Any) -> Items:
    """N windows as items, with what decoding needs."""
    tokens = cut.tokens
    tensors = {"input_ids": Ragged(tokens.ids, tokens.bounds)}
    # Without types of its own, a text's types are zeros, which items give where they have no tensor.
    if "token_type_ids" in tokenizer.transformers_tokenizer.model_input_names:
        tensors["token_type_ids"] = Ragged(tokens.types, tokens.bounds)
    empty = tokenizer.pack([], [], [])
    return replace(empty, rows=cut.rows, lengths=tokens.lengths, tensors=tensors, host=host)


def locate(batch: OutputBatch, bounds: Places, length: int) -> tuple[Places, NDArray[np.bool_]]:
    """Where a batch's places are among the T tokens, and which of them are no padding: [n, length] each."""
    begins = bounds[batch.picks][:, None]
    places = np.arange(length, dtype=np.int64)
    real = places < bounds[batch.picks + 1][:, None] - begins
    return np.where(real, begins + places, 0), real


def _assemble(tokens: Tokens, rows: Places, edges: tuple[Places, Places, Places, Places]) -> Cut:
    """Windows of what is before a text, a part of it, and what is after it.

    `edges`: where the text begins, where its part begins and ends, and where it ends: [N] each.
    """
    first, begin, end, last = edges
    starts = np.stack([tokens.bounds[rows], begin, last], axis=1)
    lengths = np.stack([first, end, tokens.bounds[rows + 1]], axis=1) - starts
    places = expand(starts.reshape(-1), lengths.reshape(-1))
    return Cut(tokens.pick(places, lengths.sum(axis=1)), rows)


def expand(starts: Places, lengths: Places) -> Places:
    """All places of runs that begin there and are so long, one run after the other."""
    skipped = starts - (np.cumsum(lengths) - lengths)
    return np.repeat(skipped, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)


def to_bounds(lengths: NDArray[Any]) -> Places:
    """Where sequences of these lengths begin, and where the last one ends: [N + 1]."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _flatten(rows: Iterable[Iterable[int]]) -> Ints:
    return np.fromiter(chain.from_iterable(rows), np.int32)


def _number(value: int | None) -> int:
    return _ADDED if value is None else value
