"""Answers: spans of text to the answers of a row, those that read the same as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Answers:
    """M answers, by row, in each from the likeliest to the least likely."""

    rows: NDArray[np.int64]
    """[M]"""
    texts: list[str]
    """[M]"""
    starts: NDArray[np.int32]
    """First character in the context: [M]"""
    ends: NDArray[np.int32]
    """One past the last character: [M]"""
    scores: NDArray[np.float64]
    """[M]"""

    def rank(self, top_k: int) -> Answers:
        """The `top_k` best of each row; equal scores in the order they have here."""
        order = np.lexsort((-self.scores, self.rows))
        rows = self.rows[order]
        rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
        return self.pick(order[rank < top_k])

    def pick(self, places: NDArray[np.intp]) -> Answers:
        """The answers at these places."""
        texts = [self.texts[place] for place in places.tolist()]
        return Answers(self.rows[places], texts, self.starts[places], self.ends[places], self.scores[places])

    def add_empty(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> Answers:
        """These, and the answer that there is none for each of the rows."""
        nowhere = np.zeros(len(rows), dtype=np.int32)
        return Answers(
            np.concatenate([self.rows, rows]),
            [*self.texts, *[""] * len(rows)],
            np.concatenate([self.starts, nowhere]),
            np.concatenate([self.ends, nowhere]),
            np.concatenate([self.scores, scores]),
        )


def merge_answers(
    rows: NDArray[np.int64],
    places: tuple[NDArray[np.int32], NDArray[np.int32]],
    scores: NDArray[np.float32],
    contexts: Sequence[str],
) -> Answers:
    """One answer for all that read the same in a row, in large or small letters, with all their scores.

    It stands where the first of them does.

    Args:
        rows: the row of each span: [S].
        places: its first character, and one past its last: [S] each.
        scores: [S].
        contexts: the text of each span's row: [S].
    """
    seen: dict[tuple[int, str], int] = {}
    owners = np.empty(len(rows), dtype=np.int64)
    firsts: list[int] = []
    texts: list[str] = []
    spans = zip(rows.tolist(), places[0].tolist(), places[1].tolist(), contexts, strict=True)
    for number, (row, start, end, context) in enumerate(spans):
        text = context[start:end]
        owner = seen.setdefault((row, text.lower()), len(texts))
        owners[number] = owner
        if owner == len(texts):
            texts.append(text)
            firsts.append(number)
    kept = np.array(firsts, dtype=np.intp)
    totals = np.zeros(len(texts), dtype=np.float64)
    np.add.at(totals, owners, scores)
    return Answers(rows[kept], texts, places[0][kept], places[1][kept], totals)
