"""One schema over files that differ, and rows that do not fit it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import SourceUnreadable
from tests.sources.reading import cut, open_path, read_all, read_path, rejected


def write(folder, *tables):
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return folder


def column(values, kind):
    return pa.table({"x": pa.array(values, kind)})


@pytest.mark.case(38)
def test_a_column_that_a_file_does_not_have_is_null(tmp_path):
    write(tmp_path, pa.table({"a": [1], "b": ["x"]}), pa.table({"c": [True], "a": [2]}))
    assert read_path(tmp_path) == [{"a": 1, "b": "x", "c": None}, {"a": 2, "b": None, "c": True}]


@pytest.mark.case(38)
@pytest.mark.parametrize(
    ("one", "other", "wide"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.list_(pa.int32()), pa.list_(pa.int64()), pa.list_(pa.int64())),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.string()),
    ],
)
def test_types_are_widened(tmp_path, one, other, wide):
    write(tmp_path, column([None], one), column([None], other))
    rows = read_all(open_path(tmp_path)).table
    assert rows.schema == pa.schema([("x", wide)])
    assert rows.num_rows == 2


def test_a_struct_gains_the_fields_of_all_files(tmp_path):
    write(tmp_path, pa.table({"x": [{"a": 1}]}), pa.table({"x": [{"a": 2, "b": "q"}]}))
    assert read_path(tmp_path) == [{"x": {"a": 1, "b": None}}, {"x": {"a": 2, "b": "q"}}]


@pytest.mark.case(38)
def test_types_without_a_common_one_are_refused_by_name(tmp_path):
    write(tmp_path, column([1], pa.int64()), column(["a"], pa.string()))
    with pytest.raises(SourceUnreadable) as caught:
        open_path(tmp_path).inventory()
    text = str(caught.value)
    assert "column 'x' is string here and int64 in" in text
    assert "0.parquet" in text
    assert "1.parquet" in text


@pytest.mark.case(38)
def test_a_value_that_does_not_fit_the_widened_type_rejects_its_row_alone(tmp_path):
    write(tmp_path, column([1, 2**60, 3], pa.int64()), column([0.5], pa.float64()))
    rows = read_all(open_path(tmp_path))
    assert rows.table.column("x").to_pylist() == [1.0, None, 3.0, 0.5]
    assert rejected(rows).keys() == {1}
    assert "0.parquet: record 2: column 'x'" in rejected(rows)[1]


def test_a_rejected_row_is_null_in_all_columns_and_counted_within_the_read(tmp_path):
    table = pa.table(
        {"x": range(118, 148), "name": [f"n{i}" for i in range(30)], "l": [[i] for i in range(30)]}
    )
    source = open_path(write(tmp_path, table))
    narrow = pa.schema([("name", pa.string()), ("x", pa.int8()), ("l", pa.list_(pa.int64()))])
    rows = source.open_reader(narrow).read(cut(source.inventory(), 5, 12))
    assert rejected(rows).keys() == {5, 6}
    assert rows.table.schema == narrow
    assert rows.table.to_pylist()[4:6] == [
        {"name": "n9", "x": 127, "l": [9]},
        {"name": None, "x": None, "l": None},
    ]


def test_a_type_that_cannot_be_reached_at_all_is_an_error_of_the_file(tmp_path):
    source = open_path(write(tmp_path, column([1], pa.int64())))
    reader = source.open_reader(pa.schema([("x", pa.list_(pa.string()))]))
    with pytest.raises(SourceUnreadable, match="column 'x' is int64, which is not list"):
        reader.read(cut(source.inventory(), 0, 1))


def test_columns_come_in_the_order_that_was_asked_for(tmp_path):
    write(tmp_path, pa.table({"a": [1], "b": [2], "c": [3]}))
    assert read_all(open_path(tmp_path), ["c", "a"]).table.column_names == ["c", "a"]
