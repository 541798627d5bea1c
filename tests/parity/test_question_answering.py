"""Answers are those of the pipeline of transformers 4.57, as `record_answers.py` recorded them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.run import run_job
from tests.faults.harness import read_rows
from tests.parity.record_answers import ANSWERS, CASES, CONFIGS, build_model, make_pairs

RECORD = json.loads(ANSWERS.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=CONFIGS)
def known(request, tmp_path_factory):
    """A model's folder and its recorded answers; the weights are the same to the last bit."""
    folder = tmp_path_factory.mktemp(request.param)
    assert build_model(folder, request.param) == RECORD[request.param]["weights"]
    return folder, RECORD[request.param]["answers"]


def read_answers(rows):
    """The answers of each row: a list of (answer, score, start, end)."""
    if "answers" not in rows.column_names:
        return [[tuple(row.values())] for row in rows.select(["answer", "score", "start", "end"]).to_pylist()]
    return [[tuple(one.values()) for one in row] for row in rows["answers"].to_pylist()]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: json.dumps(CASES[number]))
def test_answers_are_those_of_transformers_4_57(number, known, make_spec, tmp_path):
    model, recorded = known
    case = CASES[number]
    pq.write_table(pa.Table.from_pylist(make_pairs()), tmp_path / "rows.parquet")
    run_job(
        make_spec(
            "task=question-answering",
            f"model.id='{model}'",
            f"input={{path: '{tmp_path / 'rows.parquet'}'}}",
            f"shapes={{batch_size: 4, sequence_length: [16, 32, {case['max_seq_len']}]}}",
            f"options={json.dumps(case['options'])}",
        )
    )

    made = read_answers(read_rows(tmp_path / "out"))

    judged = [(row, made[row], wanted) for row, wanted in enumerate(recorded[number]) if wanted is not None]
    for row, found, wanted in judged:
        # Where a context has few spans, that pipeline fills up with impossible ones, whose score is 0.
        found, wanted = ([one for one in some if one[1] > 0] for some in (found, wanted))
        assert [(one[0], *one[2:]) for one in found] == [(one[0], *one[2:]) for one in wanted], row
        assert [one[1] for one in found] == pytest.approx([one[1] for one in wanted], abs=1e-5), row
    assert sum(len(some) for some in made) >= len(make_pairs()) - 1
    assert len(judged) >= 0.8 * len(make_pairs()) and len(made) == len(make_pairs())
