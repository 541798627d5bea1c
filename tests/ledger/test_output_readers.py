"""A run's output, read by the libraries that people read Parquet with: the same rows, columns and types."""

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from batchneuron.run import run_job
from tests.tiny import make_texts

ROWS, NULL_ROWS = 24, {3, 17}
ERROR = pa.struct([("code", pa.string()), ("message", pa.string())])
JOBS = {
    "labels": ((), [("label", pa.string()), ("score", pa.float32())]),
    "top-k": (
        ("options.top_k=2",),
        [("labels", pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())])))],
    ),
    "float32": (("task=feature-extraction",), [("embedding", pa.list_(pa.float32(), 16))]),
    "float16": (
        ("task=feature-extraction", "options.dtype=float16"),
        [("embedding", pa.list_(pa.float16(), 16))],
    ),
    "tokens": (
        ("task=feature-extraction", "options.pooling=none"),
        [("embedding", pa.list_(pa.list_(pa.float32(), 16)))],
    ),
}


@pytest.fixture(params=JOBS)
def run(request, make_spec, tmp_path):
    """The folder of a finished run in three parts, two rows of which are rejected, and its schema."""
    overrides, predictions = JOBS[request.param]
    texts = [None if row in NULL_ROWS else text for row, text in enumerate(make_texts(ROWS))]
    rows = {
        "id": [f"é-{row}" for row in range(ROWS)],
        "text": texts,
        "stars": pa.array(range(ROWS), pa.int16()),
    }
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    run_job(
        make_spec(
            f"input.path='{tmp_path / 'rows.parquet'}'",
            "input.keep=[id, stars]",
            "output.shard_rows=8",
            "errors.max_rejected=2",
            *overrides,
        )
    )
    schema = pa.schema(
        [
            pa.field("_row", pa.int64(), nullable=False),
            ("id", pa.string()),
            ("stars", pa.int16()),
            *predictions,
            pa.field("_truncated", pa.bool_(), nullable=False),
            ("_error", ERROR),
        ]
    )
    return tmp_path / "out", schema


@pytest.fixture
def rows(run):
    """What pyarrow reads, as Python values; embeddings as lists of floats."""
    out, _ = run
    return pq.read_table(out / "data").to_pylist()


def plain(value):
    """Arrays and tuples as lists, NumPy's numbers and missing values as Python's."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value != value else value  # NaN: pandas' missing text


def test_pyarrow_finds_the_schema_and_every_row(run, rows):
    out, schema = run
    table = pq.read_table(out / "data")

    assert table.schema.remove_metadata() == schema
    assert [row["_row"] for row in rows] == list(range(ROWS))
    assert {row["_row"] for row in rows if row["_error"]} == NULL_ROWS
    predictions = schema.names[3]
    assert all((row[predictions] is None) == (row["_row"] in NULL_ROWS) for row in rows)
    where = f"{out.parent / 'rows.parquet'}: record 4"
    assert rows[3]["_error"] == {"code": "null_input", "message": f"{where}: 'text' is null"}
    assert rows[3]["id"] == "é-3"
    assert pyarrow.dataset.dataset(out / "data").to_table().equals(table)


def test_a_rejected_row_keeps_its_place_in_its_part(run):
    out, _ = run
    parts = sorted((out / "data").iterdir())

    assert [pq.read_table(part)["_row"].to_pylist() for part in parts] == [
        list(range(lo, lo + 8)) for lo in (0, 8, 16)
    ]
    footer = pq.read_schema(parts[0]).metadata
    assert footer[b"batchneuron.rejected"] == b"1"
    assert {b"batchneuron.fingerprint", b"batchneuron.model_commit", b"batchneuron.shard"} <= footer.keys()


def test_datasets_loads_the_run_folder_itself(run, rows, tmp_path, request):
    out, schema = run
    (loaded,) = load_with_datasets(out, tmp_path).values()

    assert loaded.column_names == schema.names
    assert plain(loaded.to_list()) == rows
    for number in ("float32", "float16"):
        if number in request.node.name:
            embedding = loaded.features["embedding"]
            assert (embedding.feature.dtype, embedding.length) == (number, 16)


def test_datasets_finds_the_rows_in_the_split_where_everyone_looks(run, tmp_path):
    out, _ = run

    assert list(load_with_datasets(out, tmp_path)) == ["train"]


def load_with_datasets(out, tmp_path):
    from datasets import load_dataset

    return load_dataset(str(out), cache_dir=str(tmp_path / "cache"))


def test_pandas(run, rows):
    import pandas

    out, schema = run
    frame = pandas.read_parquet(out / "data")

    assert list(frame.columns) == schema.names
    assert [plain(row) for row in frame.to_dict("records")] == rows
    assert str(frame["_row"].dtype) == "int64"
    assert str(frame["_truncated"].dtype) == "bool"


def test_polars(run, rows, request):
    import polars

    out, schema = run
    frame = polars.read_parquet(out / "data" / "*.parquet")

    assert frame.columns == schema.names
    assert plain(frame.to_dicts()) == rows
    numbers = {"float32": polars.Float32, "float16": polars.Float16}
    for name, number in numbers.items():
        if name in request.node.name:
            assert frame.schema["embedding"] == polars.Array(number, 16)


def test_duckdb(run, rows):
    import duckdb

    out, schema = run
    found = duckdb.sql(f"select * from read_parquet('{out}/data/*.parquet') order by _row")

    assert found.columns == schema.names
    names = found.columns
    assert [dict(zip(names, plain(row), strict=True)) for row in found.fetchall()] == rows


def test_the_whole_folder_is_nothing_but_data_to_a_reader_that_walks_it(run):
    """Names that begin with a dot are passed over; there is no README and no marker to stumble on."""
    out, _ = run

    assert sorted(path.name for path in out.iterdir()) == [".batchneuron", "data"]
    assert pyarrow.dataset.dataset(out, format="parquet").count_rows() == ROWS
