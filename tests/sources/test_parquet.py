import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import SourceUnreadable
from batchneuron.sources import parquet
from tests.sources.counting import CountingOpener
from tests.sources.reading import cut, open_path, read_all, read_path, rejected


@pytest.fixture
def opener(monkeypatch):
    opener = CountingOpener()
    monkeypatch.setattr(parquet, "open_file", opener)
    return opener


def write_wide(path, rows=20_000, group=2_000):
    """Two columns of bytes that no codec shrinks, and can be found in the file."""
    left = [bytes([1 + i % 250]) * 50 + b"L%06d" % i for i in range(rows)]
    right = [bytes([1 + i % 250]) * 50 + b"R%06d" % i for i in range(rows)]
    table = pa.table({"left": left, "right": right})
    pq.write_table(table, path, row_group_size=group, compression="none", use_dictionary=False)
    return path


def test_blocks_are_row_groups(tmp_path):
    pq.write_table(pa.table({"a": range(25)}), tmp_path / "a.parquet", row_group_size=10)
    (listed,) = open_path(tmp_path / "a.parquet").inventory().files
    assert [(b.row_lo, b.rows, b.position) for b in listed.blocks] == [(0, 10, 0), (10, 10, 1), (20, 5, 2)]


def test_the_inventory_reads_no_values(tmp_path, opener):
    path = write_wide(tmp_path / "a.parquet")
    open_path(path).inventory()
    assert not opener.has_read(path, b"L000000")
    assert not opener.has_read(path, b"R010000")


def test_only_wanted_columns_are_read(tmp_path, opener):
    path = write_wide(tmp_path / "a.parquet", rows=100_000, group=50_000)
    assert read_all(open_path(path), ["right"]).table.column_names == ["right"]
    assert opener.has_read(path, b"R099000")
    assert not opener.has_read(path, b"L001000")
    assert not opener.has_read(path, b"L099000")


def test_slices_in_sequence_read_no_row_group_twice(tmp_path, monkeypatch):
    path = write_wide(tmp_path / "a.parquet")
    source = open_path(path)
    inventory = source.inventory()
    opener = CountingOpener()
    monkeypatch.setattr(parquet, "open_file", opener)
    reader = source.open_reader(inventory.schema)
    for lo in range(0, 20_000, 77):
        reader.read(cut(inventory, lo, min(lo + 77, 20_000)))
    assert len(opener.files) == 1
    assert opener.bytes_read() < 1.1 * path.stat().st_size


def test_a_jump_reads_only_what_follows(tmp_path, monkeypatch):
    path = write_wide(tmp_path / "a.parquet")
    source = open_path(path)
    inventory = source.inventory()
    opener = CountingOpener()
    monkeypatch.setattr(parquet, "open_file", opener)
    source.open_reader(inventory.schema).read(cut(inventory, 19_000, 19_010))
    assert opener.bytes_read() < 0.2 * path.stat().st_size


def test_a_large_row_group_is_never_whole_in_memory(tmp_path):
    path = write_wide(tmp_path / "a.parquet", rows=300_000, group=300_000)
    source = open_path(path)
    inventory = source.inventory()
    reader = source.open_reader(inventory.schema)
    before = pa.total_allocated_bytes()
    most = 0
    for lo in range(0, 300_000, 5000):
        rows = reader.read(cut(inventory, lo, lo + 5000))
        most = max(most, pa.total_allocated_bytes() - before - rows.table.nbytes)
    assert path.stat().st_size > 30e6
    assert most < 8e6


def test_names_with_dots_are_names(tmp_path):
    table = pa.table({"a": [{"b": 1}], "a.b": ["dotted"], "a.b.c": [True]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = open_path(tmp_path / "a.parquet")
    assert read_all(source, ["a.b"]).table.to_pydict() == {"a.b": ["dotted"]}
    assert read_all(source, ["a"]).table.to_pydict() == {"a": [{"b": 1}]}
    assert read_all(source, ["a.b.c", "a"]).table.to_pylist() == [{"a.b.c": True, "a": {"b": 1}}]


def test_dictionaries_become_the_values_they_stand_for(tmp_path):
    column = pa.array(["x", "y", None, "x"]).dictionary_encode()
    pq.write_table(
        pa.table({"d": column, "l": pa.array(["z"] * 4, pa.large_string())}), tmp_path / "a.parquet"
    )
    rows = read_all(open_path(tmp_path / "a.parquet")).table
    assert rows.schema == pa.schema([("d", pa.string()), ("l", pa.large_string())])
    assert rows.column("d").to_pylist() == ["x", "y", None, "x"]


def test_types_stay_what_they_are(tmp_path):
    table = pa.table(
        {
            "when": pa.array([1, None], pa.timestamp("us", "UTC")),
            "price": pa.array(["1.50", None], pa.string()).cast(pa.decimal128(9, 2)),
            "vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
            "tags": pa.array([["a"], []], pa.list_(pa.string())),
            "small": pa.array([1, None], pa.int8()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_all(open_path(tmp_path / "a.parquet")).table.equals(table)


def test_metadata_does_not_come_along(tmp_path):
    table = pa.table({"a": [1]}).replace_schema_metadata({"huggingface": "{}"})
    pq.write_table(table, tmp_path / "a.parquet")
    schema = open_path(tmp_path / "a.parquet").inventory().schema
    assert schema.metadata is None
    assert schema.field("a").metadata is None


def test_a_file_of_no_rows_is_fine(tmp_path):
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    source = open_path(tmp_path / "a.parquet")
    assert source.inventory().rows == 0
    assert read_all(source).table.schema == pa.schema([("a", pa.int64())])


def test_an_empty_row_group_is_passed_over(tmp_path):
    schema = pa.schema([("a", pa.int64())])
    with pq.ParquetWriter(tmp_path / "a.parquet", schema) as writer:
        for values in ([1], [], [2, 3]):
            writer.write_table(pa.table({"a": values}, schema=schema))
    assert read_path(tmp_path / "a.parquet") == [{"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.case(37)
def test_text_that_is_not_utf8_rejects_its_row_alone(tmp_path):
    data = pa.array([b"good", b"b\xffd", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"t": data, "n": [1, 2, 3]}), tmp_path / "a.parquet")
    rows = read_all(open_path(tmp_path / "a.parquet"))
    assert rows.table.to_pylist() == [{"t": "good", "n": 1}, {"t": None, "n": None}, {"t": "fine", "n": 3}]
    assert rejected(rows).keys() == {1}
    assert "a.parquet: record 2: column 't'" in rejected(rows)[1]


@pytest.mark.case(33)
@pytest.mark.parametrize("damage", ["empty", "magic", "torn", "headless"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = write_wide(tmp_path / "a.parquet", rows=10)
    whole = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "magic": b"hello" * 20, "torn": whole[:-9], "headless": whole[-4:]}[damage]
    )
    with pytest.raises(SourceUnreadable, match=r"a\.parquet: cannot be read as a Parquet file"):
        open_path(path).inventory()


@pytest.mark.case(33)
def test_a_damaged_page_is_found(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"t": [f"value {i:04d}" for i in range(100)]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[data.index(b"value 0050") + 6] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceUnreadable, match=r"a\.parquet"):
        read_path(path)


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceUnreadable, match="more than one column named 'a'"):
        open_path(tmp_path / "a.parquet").inventory()
