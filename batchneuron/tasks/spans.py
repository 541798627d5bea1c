"""Spans: start and end logits to the likeliest answers of each window.

Arithmetic of the question-answering pipeline of transformers 4.57: softmax in single precision over the
context and the class token, a span's score the product of its start's and its end's probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from batchneuron.stages.items import OutputBatch, Outputs
from batchneuron.tasks.windows import Places, locate

_NOWHERE = -10000.0  # the logit of what cannot be an answer
_Logits = NDArray[np.float32]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answerable:
    """What of the T tokens of N windows may be an answer."""

    bounds: Places
    """Where each window begins, and T: [N + 1]"""
    context: _Mask
    """Tokens of the context: [T]"""
    weighed: _Mask
    """Tokens that the softmax runs over: those, and class tokens, by which a model says there is none: [T]"""


@dataclass(frozen=True, slots=True)
class Spans:
    """S spans of tokens, by window, in each from the likeliest to the least likely."""

    windows: Places
    """[S]"""
    firsts: Places
    """The first token, among all T: [S]"""
    lasts: Places
    """The last token: [S]"""
    scores: NDArray[np.float32]
    """[S]"""


def find_spans(
    outputs: Outputs, answerable: Answerable, most_tokens: int, count: int
) -> tuple[Spans, NDArray[np.float32]]:
    """The `count` best spans of each window, fewer where it has fewer; and the score of no answer: [N].

    Args:
        outputs: start and end logits, float32 [n, L] each.
        answerable: the tokens of the context.
        most_tokens: the longest answer.
        count: how many of a window.
    """
    found = [_find_in_batch(batch, answerable, most_tokens, count) for batch in outputs.batches]
    nulls = np.zeros(outputs.items, dtype=np.float32)
    for batch, (_, null) in zip(outputs.batches, found, strict=True):
        nulls[batch.picks] = null
    windows, firsts, lasts, scores = (
        np.concatenate([getattr(spans, name) for spans, _ in found])
        for name in ("windows", "firsts", "lasts", "scores")
    )
    order = np.argsort(windows, kind="stable")
    return Spans(windows[order], firsts[order], lasts[order], scores[order]), nulls


def _find_in_batch(
    batch: OutputBatch, answerable: Answerable, most_tokens: int, count: int
) -> tuple[Spans, NDArray[np.float32]]:
    """Spans and null scores of n windows of the same padded length L."""
    length = batch.tensors[0].shape[1]
    places, real = locate(batch, answerable.bounds, length)
    weighed = answerable.weighed[places] & real
    context = answerable.context[places] & real
    starts, ends = (_softmax(logits, weighed) for logits in batch.tensors)
    scores = _score_spans(starts, ends, context, min(most_tokens, length))
    flat = scores.reshape(len(scores), -1)
    best = _find_best(flat, min(count, flat.shape[1]))
    values = np.take_along_axis(flat, best, axis=1)
    window, rank = np.nonzero(values >= 0)
    first, extra = np.divmod(best[window, rank], scores.shape[2])
    begins = answerable.bounds[batch.picks[window]]
    spans = Spans(batch.picks[window], begins + first, begins + first + extra, values[window, rank])
    return spans, starts[:, 0] * ends[:, 0]


def _softmax(logits: _Logits, weighed: _Mask) -> _Logits:
    """Probabilities over the weighed places: float32 [n, L]."""
    # A row with NaN is rejected behind this task's back; until then it must not upset the others.
    masked = np.where(weighed, np.nan_to_num(logits), np.float32(_NOWHERE))
    powers: _Logits = np.exp(masked - masked.max(axis=1, keepdims=True))
    sums: _Logits = powers.sum(axis=1, keepdims=True)
    return powers / sums


def _score_spans(starts: _Logits, ends: _Logits, context: _Mask, most_tokens: int) -> _Logits:
    """Scores by start and length less one, -1 where the span leaves the context: [n, L, most]."""
    beyond = ((0, 0), (0, most_tokens - 1))
    scores = starts[:, :, None] * sliding_window_view(np.pad(ends, beyond), most_tokens, axis=1)
    inside = context[:, :, None] & sliding_window_view(np.pad(context, beyond), most_tokens, axis=1)
    return np.where(inside, scores, np.float32(-1))


def _find_best(flat: _Logits, count: int) -> Places:
    """The highest places of each line, equal ones in their order: [n, count].

    Not `argpartition`: which of equal ones it takes depends on the processor.
    """
    least = -np.partition(-flat, count - 1, axis=1)[:, count - 1 : count]
    is_more, is_least = flat > least, flat == least
    room = count - is_more.sum(axis=1, keepdims=True)
    chosen = is_more | (is_least & (np.cumsum(is_least, axis=1) <= room))
    best = np.nonzero(chosen)[1].reshape(len(flat), count)
    order = np.argsort(-np.take_along_axis(flat, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)
