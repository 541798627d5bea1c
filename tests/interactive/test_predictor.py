"""Batches in, batches with predictions out: the answers of a job, whatever a batch is made of."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from batchneuron import Predictor
from batchneuron.errors import ColumnMissing, SpecError
from batchneuron.run import run_job
from tests.faults.harness import read_rows
from tests.tiny import make_texts

SHAPES = {"batch_size": 4, "sequence_length": [8, 16, 48]}
TEXTS = make_texts(42)


@pytest.fixture(scope="module")
def predictor(classifier):
    return Predictor(
        "text-classification", str(classifier), {"text": "title"}, SHAPES, backend={"kind": "torch"}
    )


def test_its_answers_are_those_of_a_job_bit_for_bit(make_spec, rows_folder, tmp_path):
    run_job(make_spec())
    expected = read_rows(tmp_path / "out")
    predictor = Predictor(spec=make_spec())
    batches = [expected.select(["id", "text"]).slice(lo, 10) for lo in range(0, 42, 10)]

    made = pa.concat_tables(predictor(batch) for batch in batches)

    for column in ("label", "score", "_truncated", "_error"):
        assert made[column].combine_chunks() == expected[column].combine_chunks(), column


@pytest.mark.parametrize(
    "form",
    [
        pa.table,
        dict,
        pd.DataFrame,
        lambda columns: {name: np.array(values) for name, values in columns.items()},
    ],
    ids=["arrow", "lists", "pandas", "numpy"],
)
def test_any_kind_of_batch_keeps_its_columns_and_its_order(form, predictor):
    made = predictor(form({"id": list(range(9)), "title": TEXTS[:9]}))

    assert made.column_names == ["id", "title", "label", "score", "_truncated", "_error"]
    assert made["id"].to_pylist() == list(range(9))
    assert made["score"].to_pylist() == [
        predictor({"title": [text]})["score"][0].as_py() for text in TEXTS[:9]
    ]


def test_a_row_without_a_prediction_says_why_and_harms_no_other(predictor):
    made = predictor({"title": ["alpha", None, "beta"]})

    assert [error and error["code"] for error in made["_error"].to_pylist()] == [None, "null_input", None]
    assert [label is None for label in made["label"].to_pylist()] == [False, True, False]


def test_a_batch_without_rows_has_the_columns_of_the_others(predictor):
    empty = predictor(pa.table({"title": pa.array([], pa.string())}))

    assert empty.num_rows == 0
    assert empty.schema == predictor({"title": ["alpha"]}).schema


def test_an_array_of_vectors_is_carried_as_lists(predictor):
    made = predictor({"title": np.array(["alpha", "beta"]), "vector": np.ones((2, 3), np.float32)})

    assert made["vector"].to_pylist() == [[1.0, 1.0, 1.0]] * 2


def test_shapes_that_are_not_said_end_with_the_model_s_own_limit(classifier):
    predictor = Predictor("text-classification", str(classifier), backend={"kind": "torch"})

    made = predictor({"text": ["alpha " * 46, "alpha " * 47]})

    assert made["_truncated"].to_pylist() == [False, True]


def test_a_spec_s_keys_give_way_to_what_is_said(make_spec):
    predictor = Predictor(spec=make_spec(), columns={"text": "{id}: {text}"}, options={"top_k": 2})

    made = predictor({"id": [1], "text": ["alpha"]})

    assert len(made["labels"][0]) == 2


def test_mistakes_are_named(classifier, predictor):
    with pytest.raises(SpecError, match="batch_sizes"):
        Predictor("text-classification", str(classifier), input_shapes={"batch_sizes": 4})
    with pytest.raises(ColumnMissing, match="title"):
        predictor({"text": ["alpha"]})
    with pytest.raises(TypeError, match="batch"):
        predictor(["alpha"])
