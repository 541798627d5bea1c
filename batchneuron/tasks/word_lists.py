"""Word lists: texts that come as words, and the places of their tokens in the joined text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from batchneuron.tasks.windows import Tokens


def split_words(value: str | Sequence[str | None], delimiter: str) -> list[str]:
    """The words of a row: a list as it is, a null in it as an empty word; a text cut at the delimiters."""
    if isinstance(value, str):
        return value.split(delimiter)
    return ["" if word is None else word for word in value]


def count_from_text(tokens: Tokens, words: Sequence[Sequence[str]], delimiter: str) -> Tokens:
    """The tokens, their places counted in the joined text instead of in their word.

    Args:
        tokens: T tokens of N rows.
        words: the words of N rows.
        delimiter: what joins them.
    """
    sizes = [np.fromiter(map(len, row), np.int64, len(row)) + len(delimiter) for row in words]
    starts = np.concatenate([np.zeros(0, np.int64), *(np.cumsum(row) - row for row in sizes)])
    counts = np.fromiter(map(len, words), np.int64, len(words))
    known = np.flatnonzero(tokens.words >= 0)
    word = (np.cumsum(counts) - counts)[tokens.owners[known]] + tokens.words[known]
    shift = np.zeros_like(tokens.starts)
    shift[known] = starts[word]
    return replace(tokens, starts=tokens.starts + shift, ends=tokens.ends + shift)
