import struct

import pyarrow as pa
import pytest
from pyarrow import feather

from batchneuron.errors import SourceUnreadable
from batchneuron.sources import arrow
from tests.sources.counting import CountingOpener
from tests.sources.reading import cut, open_path, read_all, read_path, rejected
from tests.sources.writing import make_rows, write_arrow, write_stream


@pytest.fixture
def opener(monkeypatch):
    opener = CountingOpener()
    monkeypatch.setattr(arrow, "open_file", opener)
    return opener


def write_wide(path):
    table = pa.table({"n": range(100), "wide": [b"W%04d" % i * 100 for i in range(100)]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    return path


@pytest.mark.parametrize("write", [write_arrow, write_stream])
def test_blocks_are_record_batches(tmp_path, write):
    write(tmp_path / "a.arrow", make_rows(0, 20))
    (listed,) = open_path(tmp_path / "a.arrow").inventory().files
    assert [(b.row_lo, b.rows, b.position) for b in listed.blocks] == [(0, 9, 0), (9, 9, 1), (18, 2, 2)]


def test_the_inventory_reads_the_narrowest_column(tmp_path, opener):
    path = write_wide(tmp_path / "a.arrow")
    assert open_path(path).inventory().rows == 100
    assert not opener.has_read(path, b"W0050W0050")


def test_only_wanted_columns_are_read(tmp_path, opener):
    path = write_wide(tmp_path / "a.arrow")
    assert read_all(open_path(path), ["n"]).table.to_pydict() == {"n": list(range(100))}
    assert not opener.has_read(path, b"W0050W0050")


def test_a_jump_reads_only_its_batches(tmp_path, monkeypatch):
    path = write_wide(tmp_path / "a.arrow")
    source = open_path(path)
    inventory = source.inventory()
    opener = CountingOpener()
    monkeypatch.setattr(arrow, "open_file", opener)
    rows = source.open_reader(inventory.schema).read(cut(inventory, 85, 95))
    assert rows.table.column("n").to_pylist() == list(range(85, 95))
    assert not opener.has_read(path, b"W0079W0079")


def test_feather_is_arrow(tmp_path):
    feather.write_feather(make_rows(0, 5), str(tmp_path / "a.feather"), compression="zstd")
    assert read_path(tmp_path / "a.feather") == make_rows(0, 5).to_pylist()
    assert read_path("feather", data_files=str(tmp_path / "*.feather")) == make_rows(0, 5).to_pylist()


@pytest.mark.parametrize("write", [write_arrow, write_stream])
def test_dictionaries_become_the_values_they_stand_for(tmp_path, write):
    table = pa.table({"id": ["1"] * 20, "d": pa.array(["x", None] * 10).dictionary_encode()})
    write(tmp_path / "a.arrow", table)
    rows = read_all(open_path(tmp_path / "a.arrow"), ["d"]).table
    assert rows.schema == pa.schema([("d", pa.string())])
    assert rows.column("d").to_pylist() == ["x", None] * 10


@pytest.mark.case(33)
@pytest.mark.parametrize("write", [write_arrow, write_stream])
def test_a_torn_file_is_named(tmp_path, write):
    path = tmp_path / "a.arrow"
    write(path, make_rows(0, 30))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(SourceUnreadable, match=r"a\.arrow: cannot be read as an Arrow file"):
        open_path(path).inventory()


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "is empty"), (b"FEA1" * 9, "version 1"), (b"hello, world", "cannot be read")]
)
def test_other_files_are_named(tmp_path, data, message):
    (tmp_path / "a.arrow").write_bytes(data)
    with pytest.raises(SourceUnreadable, match=message):
        open_path(tmp_path / "a.arrow").inventory()


@pytest.mark.case(33)
def test_a_batch_that_points_out_of_bounds_does_not_crash(tmp_path):
    path = tmp_path / "a.arrow"
    write_arrow(path, pa.table({"t": ["x" * 1000, "y" * 1000]}))
    good, bad = struct.pack("<3i", 0, 1000, 2000), struct.pack("<3i", 0, 1000, 2_000_000_000)
    path.write_bytes(path.read_bytes().replace(good, bad))
    rows = read_all(open_path(path))
    assert rows.table.to_pylist() == [{"t": "x" * 1000}, {"t": None}]
    assert rejected(rows).keys() == {1}


def make_views():
    """Columns as polars has them, of every kind that it writes as a view, and one of lists that are views."""
    polars = pytest.importorskip("polars")
    text = ["x", None, "a text that is too long for a view to hold"]
    frame = polars.DataFrame(
        {
            "text": text,
            "bytes": [None if each is None else each.encode() for each in text],
            "list": [text, [], None],
            "pair": polars.Series([text[:2], None, text[1:]], dtype=polars.Array(polars.String, 2)),
            "struct": [{"x": each} for each in text],
            "kind": polars.Series(text, dtype=polars.Categorical),
        }
    )
    lists = pa.array([[1, None], None, [3]], pa.list_view(pa.int64()))
    return frame, pa.table({"lists": lists})


def test_views_become_what_everything_can_read(tmp_path):
    frame, lists = make_views()
    frame.write_ipc(tmp_path / "a.arrow")
    write_arrow(tmp_path / "b.arrow", lists)

    source = open_path(tmp_path)
    rows = read_all(source).table

    assert (
        rows.schema
        == source.inventory().schema
        == pa.schema(
            {
                "text": pa.large_string(),
                "bytes": pa.large_binary(),
                "list": pa.large_list(pa.large_string()),
                "pair": pa.list_(pa.large_string(), 2),
                "struct": pa.struct({"x": pa.large_string()}),
                "kind": pa.large_string(),
                "lists": pa.list_(pa.int64()),
            }
        )
    )
    rows.validate(full=True)
    expected = [{**row, "lists": None} for row in frame.to_dicts()]
    assert rows.to_pylist()[:3] == [
        {**row, "pair": None if row["pair"] is None else list(row["pair"])} for row in expected
    ]
    assert rows["lists"].to_pylist() == [None] * 3 + [[1, None], None, [3]]
    assert rows.take([2, 0])["text"].to_pylist() == ["a text that is too long for a view to hold", "x"]


def test_files_of_polars_and_of_pyarrow_are_one_input(tmp_path):
    make_views()[0].select("text").write_ipc(tmp_path / "a.arrow")
    write_arrow(tmp_path / "b.arrow", pa.table({"text": ["y"]}))
    assert read_path(tmp_path)[::3] == [{"text": "x"}, {"text": "y"}]


@pytest.mark.parametrize("errors", ["reject", "replace"])
def test_a_view_of_text_that_is_not_utf8_is_treated_like_any_other(tmp_path, errors):
    texts = pa.array([b"good", b"b\xffd", b"b\xffd, and too long for a view to hold"], pa.binary_view())
    write_arrow(tmp_path / "a.arrow", pa.table({"text": texts.view(pa.string_view())}))
    rows = read_all(open_path(tmp_path / "a.arrow", encoding_errors=errors))
    mended = (
        ["b\ufffdd", "b\ufffdd, and too long for a view to hold"] if errors == "replace" else [None, None]
    )
    assert rows.table["text"].to_pylist() == ["good", *mended]
    assert sorted(rejected(rows)) == ([1, 2] if errors == "reject" else [])
