"""Spelling: runs of tokens as words, in the tokenizer's own spelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from batchneuron.tasks.windows import Places, Tokens, drop, expand, to_bounds


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the T tokens of N items stand in their texts: what decoding needs beside the scores."""

    tokens: Tokens
    """Without those that the tokenizer added"""
    places: Places
    """Where each of them is among all tokens of the items: [T]"""
    texts: Sequence[str]
    """The text of each item, whole: [N]"""
    has_offsets: bool
    """Whether the tokenizer knows the characters of a token."""
    tokenizer: Any


def lay_out(tokens: Tokens, texts: Sequence[str], tokenizer: Any) -> Layout:
    """The layout of N items, of all their tokens."""
    places = np.flatnonzero(tokens.texts >= 0)
    return Layout(drop(tokens, tokens.texts < 0), places, texts, bool(tokenizer.is_fast), tokenizer)


def spell(layout: Layout, begins: Places, ends: Places, heads: Places | None) -> list[str]:
    """Each run of tokens as a word, in the tokenizer's own spelling.

    Args:
        layout: T tokens.
        begins: the first token of each run.
        ends: one past its last.
        heads: the first token of each word, where words are spelt before runs are; else None.
    """
    lengths = ends - begins
    places = expand(begins, lengths)
    names = name_tokens(layout, places)
    if heads is None:
        return _join(layout, names, lengths)
    is_head = np.isin(places, heads, assume_unique=True)
    sizes = np.diff(np.flatnonzero(is_head), append=len(places))
    words = _join(layout, names, sizes)
    return _join(layout, words, np.diff(np.concatenate([[0], np.cumsum(is_head)[np.cumsum(lengths) - 1]])))


def name_tokens(layout: Layout, places: Places) -> list[str]:
    """These tokens as the vocabulary has them; an unknown one as it stands in its text."""
    tokens = layout.tokens
    ids = tokens.ids[places]
    names: list[str] = layout.tokenizer.convert_ids_to_tokens(ids.tolist())
    if layout.has_offsets:
        unknown = np.flatnonzero(ids == layout.tokenizer.unk_token_id)
        owners = np.searchsorted(tokens.bounds, places[unknown], side="right") - 1
        for i, place, owner in zip(unknown.tolist(), places[unknown].tolist(), owners.tolist(), strict=True):
            names[i] = layout.texts[owner][tokens.starts[place] : tokens.ends[place]]
    return names


def _join(layout: Layout, names: Sequence[str], lengths: Places) -> list[str]:
    """One text for each run of so many names."""
    join = layout.tokenizer.convert_tokens_to_string
    edges = to_bounds(lengths).tolist()
    return [join(names[begin:end]) for begin, end in pairwise(edges)]
