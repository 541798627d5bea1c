"""Spans, by sums that one can do in one's head; of equal ones the first are taken, on any processor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.stages.items import OutputBatch, Outputs
from batchneuron.tasks.spans import Answerable, _find_best, find_spans


@given(
    st.lists(st.lists(st.integers(-1, 3), min_size=7, max_size=7), min_size=1, max_size=5), st.integers(1, 7)
)
def test_the_best_are_those_of_a_stable_sort(lines, count):
    flat = np.array(lines, np.float32)

    best = _find_best(flat, count)

    assert best.tolist() == np.argsort(-flat, axis=1, kind="stable")[:, :count].tolist()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_tokens_that_are_all_as_likely_answer_from_the_left(count):
    """One class token and 37 of context, every logit the same: each span has the score 1/38²."""
    tokens = 38
    is_context = np.arange(tokens) > 0
    answerable = Answerable(np.array([0, tokens]), is_context, np.ones(tokens, np.bool_))
    logits = np.full((1, 40), 0.25, np.float32)  # two places of padding
    outputs = Outputs(1, (OutputBatch(np.array([0]), (logits, logits)),))

    spans, nulls = find_spans(outputs, answerable, 3, count)

    expected = [(1, 1), (1, 2), (1, 3), (2, 2), (2, 3)][:count]
    assert list(zip(spans.firsts.tolist(), spans.lasts.tolist(), strict=True)) == expected
    assert spans.scores == pytest.approx([1 / tokens**2] * count)
    assert nulls == pytest.approx([1 / tokens**2])
