"""Agreement: limits by precision, what is beyond them, and several records as one."""

import pytest

from batchneuron.programs.agreement import (
    Agreement,
    Parity,
    ShapeAgreement,
    find_excesses,
    find_tolerance,
    join_agreements,
)

GOOD = Agreement(
    rows=64,
    cosine_min=0.99995,
    cosine_mean=0.99999,
    score_difference_max=0.001,
    score_difference_mean=0.0001,
    label_agreement=1.0,
)


def test_half_precisions_are_given_more_room():
    exact, half = find_tolerance("float32"), find_tolerance("bfloat16")

    assert half.cosine < exact.cosine < 1
    assert 0 < exact.score_difference < half.score_difference < 0.1
    assert exact.label_share == 0 < half.label_share < 0.05
    assert find_tolerance("float16") == half


def test_a_spec_s_tolerance_is_that_of_labels_alone():
    wished, usual = find_tolerance("bfloat16", 0.3), find_tolerance("bfloat16")

    assert wished.label_share == 0.3
    assert (wished.cosine, wished.score_difference) == (usual.cosine, usual.score_difference)


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ({"non_finite_rows": 1}, "1 of 64 rows give NaN"),
        ({"cosine_min": 0.9}, "cosine of the vectors 0.900000, at least 0.998 is needed"),
        ({"score_difference_max": 0.25}, "scores differ by 0.25, at most 0.06 is allowed"),
        ({"label_agreement": 0.75}, "labels agree in 75.0%, at least 98.0% is needed"),
    ],
)
def test_each_figure_has_its_limit(figures, told):
    from dataclasses import replace

    tolerance = find_tolerance("bfloat16")
    assert find_excesses(GOOD, tolerance) == ()

    (line,) = find_excesses(replace(GOOD, **figures), tolerance)
    assert line.startswith(told)


def test_what_a_task_does_not_have_cannot_be_beyond_a_limit():
    assert find_excesses(Agreement(rows=3), find_tolerance("float32")) == ()


def test_a_share_at_the_limit_passes():
    tolerance = find_tolerance("bfloat16", 0.1)

    assert find_excesses(Agreement(10, label_agreement=0.9), tolerance) == ()
    assert len(find_excesses(Agreement(100, label_agreement=0.89), tolerance)) == 1


def test_joined_means_count_rows_and_the_worst_counts_alone():
    one = Agreement(10, 0.99, 0.995, 0.01, 0.002, 1.0, 0)
    other = Agreement(30, 0.98, 0.999, 0.04, 0.006, 0.9, 2)

    assert join_agreements([one, other]) == Agreement(40, 0.98, 0.998, 0.04, 0.005, 0.925, 2)
    assert join_agreements([Agreement(1), Agreement(2)]) == Agreement(3)


def test_a_shape_that_no_row_fits_says_nothing():
    shapes = (ShapeAgreement("4x8", Agreement(0)), ShapeAgreement("4x16", GOOD))

    assert Parity("measured", None, shapes).overall == GOOD
    assert Parity("measured", None, shapes[:1]).overall is None
    assert Parity("reference").overall is None
