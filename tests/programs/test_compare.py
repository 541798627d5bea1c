"""Comparing tables: each kind of column by its type, each figure worked out by hand."""

import numpy as np
import pyarrow as pa
import pytest

from batchneuron.programs.compare import compare_tables

LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])
ENTITY = pa.struct(
    [
        ("entity_group", pa.string()),
        ("score", pa.float32()),
        ("word", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
    ]
)
FILL = pa.struct([("score", pa.float32()), ("token_str", pa.string())])


def compare(kind, ours, reference, metadata=None):
    schema = pa.schema([pa.field("prediction", kind, metadata=metadata)])
    return compare_tables(*(pa.table([pa.array(rows, kind)], schema=schema) for rows in (ours, reference)))


def test_vectors_by_their_cosine():
    rows = compare(pa.list_(pa.float32(), 2), [[1, 0], [0, 2], [3, 4]], [[1, 0], [2, 0], [4, 3]])

    assert rows.cosines.tolist() == [1, 0, 0.96]
    found = rows.summarize()
    assert (found.rows, found.cosine_min, found.cosine_mean) == (3, 0, 0.653333)
    assert (found.label_agreement, found.score_difference_max) == (None, None)


def test_a_vector_of_another_length_is_not_the_same():
    rows = compare(pa.list_(pa.float16(), 2), [[2, 0], [0, 0]], [[1, 0], [0, 0]])

    assert rows.cosines.tolist() == [0.8, 1]  # 2 · 2 / (4 + 1)


def test_token_vectors_of_a_row_are_one_long_vector():
    rows = compare(
        pa.list_(pa.list_(pa.float32(), 2)), [[[1, 0], [0, 1]], [[3, 4]]], [[[1, 0], [1, 0]], [[3, 4]]]
    )

    assert rows.cosines.tolist() == [0.5, 1]


def test_quantised_numbers_may_be_one_step_apart():
    steps = {"int8_steps": "[1, 1]"}
    rows = compare(pa.list_(pa.int8(), 2), [[60, -80], [60, 80]], [[61, -79], [60, -80]], steps)

    assert rows.cosines.tolist() == pytest.approx([1, -0.28])


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8()])
def test_binary_vectors_by_their_equal_bits(kind):
    rows = compare(pa.list_(kind, 2), [[1, 0], [7, 7]], [[1, 0], [7, 4]])

    assert rows.equal.tolist() == [1, 14 / 16]
    assert rows.summarize().cosine_min is None


def test_labels_and_scores_side_by_side():
    schema = pa.schema(list(LABEL))
    ours = pa.table([["a", "b", "c"], [0.5, 0.75, 0.5]], schema=schema)
    reference = pa.table([["a", "b", "d"], [0.5, 0.5, 0.625]], schema=schema)

    found = compare_tables(ours, reference).summarize()

    assert (found.label_agreement, found.score_difference_max) == (0.666667, 0.25)
    assert found.score_difference_mean == 0.125


def test_scores_beyond_one_are_compared_relatively():
    rows = compare(pa.float32(), [12.0, 0.5, -30.0], [16.0, 0.25, -20.0])

    assert rows.differences.tolist() == [0.25, 0.25, 0.5]


def test_of_a_ranked_list_the_first_counts():
    def rank(*labels):
        return [{"label": name, "score": score} for name, score in zip(labels, (0.75, 0.25), strict=True)]

    rows = compare(
        pa.list_(LABEL),
        [rank("a", "b"), rank("b", "a"), [], []],
        [rank("a", "c"), rank("a", "b"), [], rank("a", "b")],
    )

    assert rows.equal.tolist() == [1, 0, 1, 0]


def test_zero_shot_s_two_lists():
    schema = pa.schema([("labels", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))])
    ours = pa.table([[["x", "y"], ["y", "x"]], [[0.5, 0.5], [0.75, 0.25]]], schema=schema)
    reference = pa.table([[["x", "y"], ["x", "y"]], [[0.75, 0.25], [0.75, 0.25]]], schema=schema)

    rows = compare_tables(ours, reference)

    assert rows.equal.tolist() == [1, 0]
    assert rows.differences.tolist() == [0.25, 0]


def test_every_mask_counts_and_of_each_the_likeliest_word():
    def fills(*words):
        return [[{"score": 0.5, "token_str": word}, {"score": 0.25, "token_str": "z"}] for word in words]

    rows = compare(pa.list_(pa.list_(FILL)), [fills("a", "b"), fills("a")], [fills("a", "c"), fills("a")])

    assert rows.equal.tolist() == [0, 1]


def test_all_entities_count_with_their_places_and_an_equal_list_by_its_scores():
    def entity(name, start, score=0.5):
        return {"entity_group": name, "score": score, "word": "w", "start": start, "end": start + 1}

    rows = compare(
        pa.list_(ENTITY),
        [[entity("A", 0), entity("B", 3, 0.25)], [entity("A", 0), entity("B", 4)], [entity("A", 0)], []],
        [[entity("A", 0), entity("B", 3)], [entity("A", 0), entity("B", 3)], [], []],
    )

    assert rows.equal.tolist() == [1, 0, 0, 1]
    assert rows.differences.tolist()[0] == 0.25
    assert np.isnan(rows.differences[1:]).all()


def test_a_row_that_one_alone_predicts_is_broken_and_has_no_other_figure():
    nan = float("nan")
    rows = compare(pa.list_(pa.float32(), 2), [None, [1, 0], None, [nan, 1]], [[1, 0], None, None, [0, 1]])

    assert rows.is_broken.tolist() == [True, True, False, True]
    assert np.isnan(rows.cosines).all()
    assert rows.summarize().non_finite_rows == 3
    assert rows.summarize().cosine_min is None


def test_a_score_that_is_not_finite_breaks_its_row():
    rows = compare(pa.float32(), [float("nan"), 0.5], [0.5, 0.5])

    assert rows.is_broken.tolist() == [True, False]
    assert rows.summarize().score_difference_max == 0


def test_an_even_choice_is_not_a_wrong_one():
    rows = compare(pa.string(), ["a", "b", "c"], ["a", "a", "a"])

    excused = rows.excuse(np.array([False, True, False]))

    assert (rows.summarize().label_agreement, excused.summarize().label_agreement) == (0.333333, 0.666667)


def test_the_worst_rows_come_first_and_equal_ones_not_at_all():
    schema = pa.schema(list(LABEL))
    ours = pa.table([["a", None, "a", "b"], [0.5, None, 0.5, 0.5]], schema=schema)
    reference = pa.table([["a", "a", "a", "a"], [0.5, 0.5, 0.25, 0.5]], schema=schema)

    rows = compare_tables(ours, reference)

    assert rows.find_worst(4).tolist() == [1, 3, 2]
    assert rows.find_worst(1).tolist() == [1]
