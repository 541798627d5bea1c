"""A job of the rejected rows alone: their columns from the input, where they stood, and it runs."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import OutputConflict, SourceChanged
from batchneuron.ledger.retry import write_retry
from batchneuron.run import load_job, run_job

NULLS = [3, 11, 12, 36]


@pytest.fixture
def make_run(make_spec, tmp_path):
    """Runs 37 rows of which four have no text; carries what is asked for."""

    def run(*overrides):
        texts = [None if row in NULLS else f"alpha beta {row}" for row in range(37)]
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"text": texts, "number": range(37), "other": ["x"] * 37}), path)
        run_job(make_spec(f"input.path='{path}'", "errors.max_rejected=10", *overrides))
        return str(tmp_path / "out")

    return run


@pytest.mark.parametrize(
    ("keep", "read", "carried"),
    [
        ("null", ["text", "number", "other"], ["text", "number", "other", "source_row", "source_error"]),
        ("[number]", ["text", "number"], ["number", "source_row"]),
        ("{n: number}", ["text", "number"], ["n", "source_row"]),
        ("[]", ["text"], ["source_row"]),
    ],
)
def test_rejected_rows_are_mended_and_run_alone(make_run, tmp_path, keep, read, carried):
    out = make_run(f"input.keep={keep}")

    retry = write_retry(out, tmp_path / "retry.yaml")

    table = pq.read_table(retry.data)
    assert (retry.rows, retry.unread) == (4, 4 if read == ["text"] else 0)
    assert table.column_names == [*read, "source_row", "source_error"]
    assert table["source_row"].to_pylist() == NULLS
    places = [f"{tmp_path / 'rows.parquet'}: record {row + 1}" for row in NULLS]
    assert table["source_error"].to_pylist() == [f"null_input: {place}: 'text' is null" for place in places]
    assert "number" not in read or table["number"].to_pylist() == NULLS

    mended = pa.array([f"gamma {row}" for row in NULLS])
    pq.write_table(table.set_column(table.column_names.index("text"), "text", mended), retry.data)
    summary = run_job(load_job(retry.spec))
    made = pq.read_table(f"{summary.output}/data")
    assert summary.output == f"{out}-retry"
    assert (summary.rows, summary.rejected) == (4, 0)
    assert made["source_row"].to_pylist() == NULLS
    assert [name for name in made.column_names if name in carried] == carried


def test_the_retry_of_a_retry_still_tells_the_first_row(make_run, tmp_path):
    first = write_retry(make_run(), tmp_path / "retry.yaml")
    run_job(load_job(first.spec))

    second = write_retry(
        str(tmp_path / "out-retry"), tmp_path / "again.yaml", tmp_path / "again/rows.parquet"
    )

    assert pq.read_table(second.data)["source_row"].to_pylist() == NULLS
    assert load_job(second.spec).input.path == str(tmp_path / "again/rows.parquet")


def test_without_rejected_rows_there_is_no_job(make_spec, tmp_path):
    run_job(make_spec())

    assert write_retry(str(tmp_path / "out"), tmp_path / "retry.yaml") is None
    assert not (tmp_path / "retry.yaml").exists()


@pytest.mark.parametrize("taken", ["retry.yaml", "retry.parquet"])
def test_what_is_there_is_not_written_over(make_run, tmp_path, taken):
    out = make_run()
    (tmp_path / taken).write_text("mine")

    with pytest.raises(OutputConflict, match="there already"):
        write_retry(out, tmp_path / "retry.yaml")
    assert (tmp_path / taken).read_text() == "mine"


def test_an_input_that_has_changed_is_not_read(make_run, tmp_path):
    out = make_run()
    pq.write_table(
        pa.table({"text": ["x"] * 37, "number": range(37), "other": ["y"] * 37}), tmp_path / "rows.parquet"
    )

    with pytest.raises(SourceChanged):
        write_retry(out, tmp_path / "retry.yaml")
