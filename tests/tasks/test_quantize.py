"""Vectors in fewer bits: by hand, and as sentence-transformers has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from batchneuron.tasks.quantize import join_ranges, measure_ranges, quantize, read_ranges, vector_type

vectors = arrays(np.float32, st.tuples(st.integers(1, 9), st.just(11)), elements=st.floats(-4, 4, width=32))


@given(vectors)
def test_int8_is_back_within_half_a_step(values):
    ranges = read_ranges(measure_ranges(values))

    numbers = quantize(values, "int8", ranges)

    assert numbers.dtype == np.int8
    back = ranges.minimums + (numbers.astype(np.float32) + 128) * ranges.steps
    assert np.all(np.abs(back - values) <= ranges.steps / 2 + 1e-5)


def test_a_number_beyond_its_range_becomes_the_nearest_in_it():
    ranges = read_ranges({"minimums": (-1.0, 0.0), "maximums": (1.0, 0.0)})

    assert quantize(np.array([[-9, 5], [9, -5]], np.float32), "int8", ranges).tolist() == [
        [-128, -123],
        [127, -128],
    ]


def test_ranges_hold_every_sample_and_say_how_to_go_back():
    joined = join_ranges(
        [
            {"minimums": (-1.0, 0.0), "maximums": (0.0, 2.0)},
            {"minimums": (-0.5, -3.0), "maximums": (4.0, 1.0)},
        ],
        2,
    )

    assert joined == {"minimums": (-1.0, -3.0), "maximums": (4.0, 2.0)}
    assert json.loads(read_ranges(joined).describe()["int8_minimums"]) == [-1.0, -3.0]
    assert join_ranges([], 2) == {"minimums": (-1.0, -1.0), "maximums": (1.0, 1.0)}


@pytest.mark.parametrize("dtype", ["binary", "ubinary"])
@given(vectors)
def test_bits_are_those_of_sentence_transformers(dtype, values):
    from sentence_transformers.util import quantize_embeddings

    assert np.array_equal(quantize(values, dtype, None), quantize_embeddings(values, dtype))
    assert quantize(values, dtype, None).shape[1] == vector_type(dtype, 11).list_size == 2
