"""Execution: what the device sees, and that each item gets its own answer whatever it travels with."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import ProgramError
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages.execute import execute
from tests.backends.arithmetic import load_all, make_items

LADDER = Ladder((Shape(4, 3), Shape(3, 8), Shape(2, 17)))
FILL = 50

token_lists = st.lists(st.lists(st.integers(1, 49), min_size=1, max_size=17), max_size=23)


def run(tokens, ladder=LADDER, vocabulary=100, executables=None, on_batch=lambda tokens: None):
    executables = executables or load_all(ladder)
    return execute(make_items(tokens, fill=FILL), ladder, executables, vocabulary, on_batch)


@given(token_lists)
def test_every_item_gets_its_own_answer_in_its_own_place(tokens):
    executed = run(tokens)

    if not tokens:
        assert executed.outputs.batches == ()
        return
    assert executed.outputs.stack(0).tolist() == [sum(ids) for ids in tokens]
    assert executed.outputs.stack(1).tolist() == [[ids[0], ids[-1]] for ids in tokens]
    assert executed.finite.all()


@given(token_lists)
def test_batches_are_full_and_static_and_hold_nothing_but_real_rows(tokens):
    executables = load_all(LADDER)
    told = []

    executed = run(tokens, executables=executables, on_batch=told.append)

    seen = executables[0].seen
    shapes = [batch["input_ids"].shape for batch in seen]
    assert set(shapes) <= {(shape.batch_size, shape.sequence_length) for shape in LADDER.shapes}
    real = {tuple(ids) for ids in tokens}
    for batch in seen:
        assert batch["attention_mask"].any(axis=1).all()
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            length = int(mask.sum())
            assert tuple(ids[:length].tolist()) in real
            assert set(ids[length:].tolist()) <= {FILL}
    assert [length for _, length in shapes] == sorted((length for _, length in shapes), reverse=True)
    assert executed.slots == sum(rows * length for rows, length in shapes)
    assert sum(told) == sum(map(len, tokens))
    assert len(told) == len(seen)


def test_a_partial_batch_is_filled_with_copies_of_its_first_row():
    executables = load_all(LADDER)

    executed = run([[7, 7, 7, 7], [8, 8, 8, 8, 8], [1]], executables=executables)

    middle, short = executables[0].seen
    assert middle["input_ids"][:, :5].tolist() == [[7, 7, 7, 7, 50], [8, 8, 8, 8, 8], [7, 7, 7, 7, 50]]
    assert short["input_ids"].tolist() == [[1, 50, 50]] * 4
    assert executed.slots == 3 * 8 + 4 * 3


@given(token_lists)
def test_where_a_batch_need_not_be_full_it_goes_with_the_rows_it_has(tokens):
    executables = load_all(LADDER, is_open=True)

    executed = run(tokens, executables=executables)

    seen = [batch["input_ids"] for batch in executables[0].seen]
    assert sum(len(ids) for ids in seen) == len(tokens)
    assert all(
        len(ids) <= shape.batch_size
        for ids in seen
        for shape in LADDER.shapes
        if ids.shape[1] == shape.sequence_length
    )
    assert executed.slots == sum(ids.size for ids in seen)
    if tokens:
        assert executed.outputs.stack(0).tolist() == [sum(ids) for ids in tokens]


@pytest.mark.parametrize(("is_open", "lengths"), [(False, [8]), (True, [8, 3])])
def test_an_item_moves_to_a_longer_shape_only_where_that_saves_a_batch(is_open, lengths):
    executables = load_all(LADDER, is_open=is_open)

    execute(make_items([[1] * 8, [2]], fill=FILL), LADDER, executables, 100, lambda _: None, spills=True)

    assert [batch["input_ids"].shape[1] for batch in executables[0].seen] == lengths


def test_batches_go_longest_shape_first_and_rows_in_order():
    executables = load_all(LADDER)
    tokens = [[1], [2] * 17, [3] * 4, [4], [5] * 9, [6] * 17, [7] * 3, [8] * 2, [9]]

    run(tokens, executables=executables)

    firsts = [batch["input_ids"][:, 0].tolist() for batch in executables[0].seen]
    assert firsts == [[2, 5], [6, 6], [3, 3, 3], [1, 4, 7, 8], [9, 9, 9, 9]]


@settings(max_examples=40, deadline=None)
@given(token_lists.filter(bool), st.randoms(use_true_random=False))
def test_an_answer_does_not_depend_on_the_neighbours(tokens, random):
    order = random.sample(range(len(tokens)), len(tokens))

    together = run(tokens).outputs.stack(0)
    shuffled = run([tokens[i] for i in order]).outputs.stack(0)

    assert shuffled.tolist() == together[order].tolist()
    assert all(run([ids]).outputs.stack(0)[0] == together[i] for i, ids in enumerate(tokens))


@pytest.mark.case(40)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_what_is_not_a_number_is_flagged_for_its_own_item_only(value, axes):
    def answer(ids, mask):
        scores = np.ones((len(ids), *[2] * (axes - 1)), np.float32)
        scores.reshape(len(ids), -1)[(ids == 13).any(axis=1), -1] = value
        return np.zeros((len(ids), 2), np.int64), scores

    tokens = [[1, 2], [13], [3], [2, 13], [4] * 9, [5]]
    executed = run(tokens, executables=load_all(LADDER, answer))

    assert executed.finite.tolist() == [True, False, True, False, True, True]


@pytest.mark.case(40)
@pytest.mark.parametrize(
    "output", [np.zeros((1, 2), np.float32), np.zeros((5, 2), np.float32), np.float32(3), np.zeros(0)]
)
def test_an_output_with_another_number_of_rows_is_a_bug(output):
    with pytest.raises(ProgramError, match="shape 4x3"):
        run([[1]], executables=load_all(LADDER, lambda ids, mask: (np.asarray(output),)))


@pytest.mark.parametrize(("token", "vocabulary"), [(100, 100), (101, 100)])
def test_a_token_outside_the_vocabulary_never_reaches_the_device(token, vocabulary):
    executables = load_all(LADDER)

    with pytest.raises(ProgramError, match=f"token {token} is outside.*vocabulary of {vocabulary}"):
        run([[1], [2, token]], vocabulary=vocabulary, executables=executables)

    assert executables[0].seen == []


def test_the_last_token_of_the_vocabulary_is_inside_and_none_means_no_check():
    assert run([[99]], vocabulary=100).outputs.stack(0).tolist() == [99]
    assert run([[999]], vocabulary=None).outputs.stack(0).tolist() == [999]


def test_a_batch_is_made_while_the_device_is_busy_with_the_one_before():
    items = make_items([[3], [4] * 9, [5] * 17])
    made = [threading.Event() for _ in items.lengths]
    inner = items.tensors["input_ids"]

    class WatchedSequences:
        def pad(self, picks, length, fill):
            made[picks[0]].set()
            return inner.pad(picks, length, fill)

    def answer(ids, mask):
        following = {5: 1, 4: 0}.get(int(ids[0, 0]))
        assert following is None or made[following].wait(10)
        return (ids[:, 0].astype(np.float32),)

    watched = replace(items, tensors={"input_ids": WatchedSequences()})
    ladder = Ladder((Shape(1, 3), Shape(1, 9), Shape(1, 17)))
    executed = execute(watched, ladder, load_all(ladder, answer), None, lambda _: None)

    assert executed.outputs.stack(0).tolist() == [3, 4, 5]


def test_an_error_while_a_batch_is_made_is_raised():
    items = replace(make_items([[3], [4]]), tensors={"input_ids": None})

    with pytest.raises(AttributeError):
        execute(items, LADDER, load_all(LADDER), None, lambda _: None)


def test_left_overs_travel_in_a_longer_shape_where_bits_do_not_depend_on_it():
    executables = load_all(LADDER)
    tokens = [[1], [2], [3], [4], [5], [6] * 8, [7] * 8]

    executed = execute(make_items(tokens), LADDER, executables, None, lambda _: None, spills=True)

    assert [batch["input_ids"].shape for batch in executables[0].seen] == [(3, 8), (4, 3)]
    assert executed.outputs.stack(0).tolist() == [sum(ids) for ids in tokens]
    assert executed.slots == 3 * 8 + 4 * 3


def test_no_items_are_no_batches():
    executed = run([])

    assert (executed.outputs.items, executed.slots, executed.finite.tolist()) == (0, 0, [])
