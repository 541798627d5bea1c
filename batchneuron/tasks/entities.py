"""Entities: scores of tokens to spans of text, as token classification in transformers groups them.

Tokens make units (single tokens, or words), units make spans. All of it on the flat arrays of a shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchneuron.stages.items import Items, Outputs
from batchneuron.tasks.windows import Ints, Places, Tokens, locate

Strategy = Literal["none", "simple", "first", "average", "max"]
WORD_STRATEGIES = frozenset({"first", "average", "max"})
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spans:
    """S runs of tokens, each with a class; together they are all the tokens there are."""

    begins: Places
    """The first token of each: [S]"""
    ends: Places
    """One past its last: [S]"""
    classes: Places
    """[S]"""
    scores: Scores
    """[S]"""


@dataclass(frozen=True, slots=True)
class Entities:
    """Spans, and the words or tokens they are made of."""

    spans: Spans
    heads: Places
    """The first token of each unit: [U]"""


@dataclass(frozen=True, slots=True)
class Classes:
    """A model's labels, read as BIO tags."""

    labels: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """What an entity of each class is called: the label after its first dash."""
        return tuple(label.split("-", 1)[-1] for label in self.labels)

    @property
    def tags(self) -> Places:
        """Classes that may stand in one entity have the same number: [C]."""
        names = [label[2:] if label.startswith(("B-", "I-")) else label for label in self.labels]
        return np.array([names.index(name) for name in names], dtype=np.int64)

    @property
    def begins(self) -> NDArray[np.bool_]:
        """Classes that begin an entity whatever stands before: [C]."""
        return np.array([label.startswith("B-") for label in self.labels])


def gather_scores(items: Items, outputs: Outputs, bounds: Places) -> Scores:
    """Scores of all tokens, fillers cut off, in item order: float32 [T, C]."""
    classes = outputs.batches[0].tensors[0].shape[-1]
    scores = np.zeros((int(items.lengths.sum()), classes), dtype=np.float32)
    for batch in outputs.batches:
        places, real = locate(batch, bounds, batch.tensors[0].shape[1])
        scores[places[real]] = batch.tensors[0][real]
    # A row with NaN is rejected behind this task's back; until then it must not upset the others.
    return np.nan_to_num(scores, copy=False)


def find_entities(tokens: Tokens, scores: Scores, strategy: Strategy, classes: Classes) -> Entities:
    """Every span of one tag, also those that will not be shown.

    Args:
        tokens: T tokens of N items, none that the tokenizer added.
        scores: float32 [T, C].
        strategy: what makes a unit, and whether units are grouped.
        classes: what the C classes mean.
    """
    owners = tokens.owners
    heads = np.arange(len(owners), dtype=np.int64)
    if strategy in WORD_STRATEGIES:
        heads = np.flatnonzero(_differs(owners) | _differs(tokens.words))
    units = _score_units(scores, heads, strategy)
    return Entities(units if strategy == "none" else _group(units, owners[heads], classes), heads)


def _score_units(scores: Scores, heads: Places, strategy: Strategy) -> Spans:
    """The class of each token, or of each word."""
    ends = np.append(heads[1:], len(scores))[: len(heads)]
    match strategy:
        case "first":
            chosen = scores[heads]
        case "max":
            chosen = scores[_find_highest(scores.max(axis=1), heads)]
        case "average":
            sums = np.add.reduceat(scores, heads, axis=0)
            chosen = (sums / (ends - heads)[:, None]).astype(np.float32)
        case _:
            chosen = scores
    classes = chosen.argmax(axis=1)
    return Spans(heads, ends, classes, np.take_along_axis(chosen, classes[:, None], axis=1)[:, 0])


def _group(units: Spans, owners: Places, classes: Classes) -> Spans:
    """Units to spans.

    A unit joins the one before it if both have the same tag, it does not begin an entity, and both are in
    the same item. The span's class is its first unit's, its score the mean of its units'.
    """
    parts = _differs(owners) | _differs(classes.tags[units.classes]) | classes.begins[units.classes]
    firsts = np.flatnonzero(parts)
    ends = np.append(firsts[1:], len(parts))[: len(firsts)]
    means = np.add.reduceat(units.scores.astype(np.float64), firsts) / (ends - firsts)
    return Spans(units.begins[firsts], units.ends[ends - 1], units.classes[firsts], means.astype(np.float32))


def number_words(tokens: Tokens, texts: Sequence[str], tokenizer: Any) -> NDArray[np.int32]:
    """The word of each token, counted over all rows: int32 [T].

    The pipeline's rules: where the vocabulary marks what goes on with a word (`##ing`), that is a token not
    as long as its text; elsewhere, one with no space before it or at its beginning. An unknown token is a
    word of its own.

    Args:
        tokens: T tokens of N rows.
        texts: what the places of the tokens count in: N texts.
        tokenizer: a fast tokenizer of transformers.
    """
    ids, inverse = np.unique(tokens.ids, return_inverse=True)
    if getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None):
        names = tokenizer.convert_ids_to_tokens(ids.tolist())
        sizes = np.fromiter(map(len, names), np.int32, len(names))
        goes_on = sizes[inverse] != tokens.ends - tokens.starts
    else:
        goes_on = (tokens.starts > 0) & ~_touches_space(tokens, texts)
    if tokenizer.unk_token_id is not None:
        goes_on &= tokens.ids != tokenizer.unk_token_id
    return np.cumsum(~goes_on, dtype=np.int32)


def merge_windows(rows: Places, starts: Ints, ends: Ints, scores: Scores) -> NDArray[np.intp]:
    """Which of the overlapping entities of split rows stay, in the order of their places.

    Of two that overlap the longer stays, of two as long the one with the higher score. Each is compared
    with the last that stayed, which no array operation can say: a loop over entities.
    """
    order = np.lexsort((starts, rows))
    kept: list[int] = []
    known = zip(*(fact[order].tolist() for fact in (rows, starts, ends, scores)), strict=True)
    held: tuple[int, int, int, float] | None = None
    for place, entity in zip(order.tolist(), known, strict=True):
        row, start, end, score = entity
        if held is None or row != held[0] or not held[1] <= start < held[2]:
            kept.append(place)
            held = entity
        elif (end - start, score) > (held[2] - held[1], held[3]):
            kept[-1] = place
            held = entity
    return np.array(kept, dtype=np.intp)


def _differs(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Places whose value is not that of the place before; the first is one."""
    return np.concatenate([[True], values[1:] != values[:-1]])[: len(values)]


def _find_highest(values: Scores, heads: Places) -> Places:
    """The first of the highest values of each run."""
    lengths = np.diff(heads, append=len(values))
    places = np.flatnonzero(values == np.repeat(np.maximum.reduceat(values, heads), lengths))
    return places[np.searchsorted(places, heads)]


def _touches_space(tokens: Tokens, texts: Sequence[str]) -> NDArray[np.bool_]:
    """Tokens that begin with a space, or behind one: [T]."""
    touches = np.zeros(len(tokens.ids), dtype=np.bool_)
    for row, text in enumerate(texts):
        inside = slice(tokens.bounds[row], tokens.bounds[row + 1])
        is_space = np.append(np.frombuffer(text.encode("utf-32-le"), np.uint32) == ord(" "), False)
        starts = np.minimum(tokens.starts[inside], len(text))
        touches[inside] = is_space[starts] | is_space[np.maximum(starts - 1, 0)]
    return touches
