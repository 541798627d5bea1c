"""The whole way of a job in one process: what is in the output, and what a second call does."""

import pyarrow.parquet as pq

from batchneuron.run import run_job


def test_every_row_is_there_once_and_a_second_run_has_nothing_to_do(make_spec, tmp_path):
    spec = make_spec()

    first = run_job(spec)
    second = run_job(spec)

    table = pq.read_table(tmp_path / "out" / "data")
    assert table["_row"].to_pylist() == list(range(42))
    assert table["id"].to_pylist() == list(range(42))
    assert set(table["label"].to_pylist()) <= {"bad", "fair", "good"}
    assert (first.rows, first.rejected, len(first.done_now)) == (42, 0, first.shards)
    assert second.done_now == ()
