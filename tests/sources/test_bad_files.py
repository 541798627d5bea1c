"""Damaged files: the run ends and names the file, or it loses their rows and counts them."""

import errno
import gzip
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import (
    DataError,
    SourceForbidden,
    SourceNotFound,
    SourceUnavailable,
    SourceUnreadable,
)
from batchneuron.sources import bytestream, location
from batchneuron.sources.location import name_fault
from batchneuron.sources.patience import Patience
from tests.sources.reading import cut, open_path, read_all, read_path, rejected

_REGION = "When resolving region for bucket 'nobody'"


def write_good(folder, name="b.parquet", rows=5):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"a": range(rows)}), folder / name)
    return folder


def write_damaged(path, rows=100, group=40, at=b"value 0050"):
    """One page of one row group is not what its checksum says."""
    table = pa.table({"t": [f"value {i:04d}" for i in range(rows)]})
    pq.write_table(
        table, path, compression="none", use_dictionary=False, write_page_checksum=True, row_group_size=group
    )
    data = bytearray(path.read_bytes())
    data[data.index(at) + 6] ^= 1
    path.write_bytes(data)
    return path


TORN = {
    "a.parquet": [b"", b"PAR1 and then nothing", b"no magic at all, and quite long for it"],
    "a.arrow": [b"", b"ARROW1\0\0 and then nothing"],
    "a.csv": [b"", b'a,b\n1,"2\n3,4\n', b"\xff\xfea\0,\0b\0"],
    "a.jsonl.gz": [b"", b"no gzip", gzip.compress(b'{"a": 1}\n' * 99, 0)[:-40]],
}


@pytest.mark.case(33, 36)
@pytest.mark.parametrize(("name", "content"), [(n, c) for n, contents in TORN.items() for c in contents])
def test_a_torn_file_ends_the_run_or_is_left_out(tmp_path, name, content):
    suffix = name.removeprefix("a")
    good = {
        ".parquet": lambda path: pq.write_table(pa.table({"a": [1, 2]}), path),
        ".arrow": lambda path: pa.feather.write_feather(pa.table({"a": [1, 2]}), str(path)),
        ".csv": lambda path: path.write_text("a\n1\n2\n"),
        ".jsonl.gz": lambda path: path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}\n')),
    }
    import pyarrow.feather  # noqa: F401

    good[suffix](tmp_path / f"b{suffix}")
    (tmp_path / name).write_bytes(content)
    if name == "a.jsonl.gz" and not content:
        return  # no member at all is a file of no rows
    with pytest.raises(SourceUnreadable, match=rf"{name}: "):
        open_path(tmp_path).inventory()
    inventory = open_path(tmp_path, on_bad_file="skip").inventory()
    assert [file.file.uri for file in inventory.files] == [str(tmp_path / f"b{suffix}")]
    (skipped,) = inventory.skipped
    assert skipped.uri == str(tmp_path / name) and skipped.reason
    assert inventory.rows == 2


@pytest.mark.case(36)
def test_rows_before_the_damage_are_counted(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 99, 0)[:-40])
    (skipped,) = open_path(tmp_path, on_bad_file="skip").inventory().skipped
    assert skipped.rows is not None and 90 <= skipped.rows < 99
    assert f"after {skipped.rows} rows" in skipped.reason


@pytest.mark.case(33)
def test_nothing_but_torn_files_is_an_error_all_the_same(tmp_path):
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / name).write_bytes(b"torn")
    with pytest.raises(SourceUnreadable, match=r"a\.parquet: none of 2 files can be read"):
        open_path(tmp_path, on_bad_file="skip").inventory()


@pytest.mark.case(33)
def test_a_damaged_page_loses_the_rows_behind_it_and_each_is_counted(tmp_path):
    """Row groups of 40 rows, the second is damaged: what is read before it, and after, is whole."""
    path = write_damaged(tmp_path / "a.parquet")
    with pytest.raises(SourceUnreadable, match=r"a\.parquet"):
        read_path(path)
    source = open_path(path, on_bad_file="skip")
    inventory = source.inventory()
    reader = source.open_reader(inventory.schema)
    pieces = [reader.read(cut(inventory, lo, lo + 20)) for lo in range(0, 100, 20)]
    lost = [len(piece.rejections) for piece in pieces]
    assert lost == [0, 0, 20, 20, 0]
    assert pieces[1].table["t"].to_pylist() == [f"value {row:04d}" for row in range(20, 40)]
    assert {rejection.code for rejection in pieces[2].rejections} == {"bad_file"}
    assert pieces[2].rejections[0].message.startswith(f"{path}: cannot be read as a Parquet file")
    assert pieces[2].table["t"].null_count == 20


@pytest.mark.case(33)
def test_the_rows_that_are_lost_do_not_depend_on_the_order_of_reading(tmp_path):
    source = open_path(write_damaged(tmp_path / "a.parquet", rows=500, group=60), on_bad_file="skip")
    inventory = source.inventory()
    pieces = [(lo, min(lo + 35, 500)) for lo in range(0, 500, 35)]
    outcomes = []
    for order in (pieces, pieces[::-1], pieces[1::2] + pieces[::2]):
        reader = source.open_reader(inventory.schema)
        read = {lo: reader.read(cut(inventory, lo, hi)) for lo, hi in order}
        outcomes.append([(read[lo].table.to_pydict(), rejected(read[lo])) for lo, _ in pieces])
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(2, "gone"), SourceNotFound),
        (PermissionError(13, "no"), SourceForbidden),
        (OSError(errno.EIO, "the disk"), SourceUnavailable),
        (OSError(errno.ESTALE, "NFS"), SourceUnavailable),
        (OSError("When reading: AWS Error ACCESS_DENIED during HeadObject operation: no"), SourceForbidden),
        (OSError("When reading: AWS Error EXPIRED_TOKEN during GetObject operation: old"), SourceForbidden),
        (OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject: curl 7"), SourceUnavailable),
        (OSError("When reading: AWS Error SLOW_DOWN during GetObject operation"), SourceUnavailable),
        (OSError("When reading: AWS Error NO_SUCH_KEY during GetObject operation"), SourceNotFound),
        (OSError("Unexpected end of stream"), SourceUnreadable),
        (pa.ArrowInvalid("Parquet magic bytes not found in footer"), SourceUnreadable),
    ],
)
def test_a_file_is_not_blamed_for_where_it_lies(error, kind):
    found = name_fault(error, "s3://b/k", "a Parquet file")
    assert type(found) is kind and found.where == "s3://b/k"


def test_what_is_not_the_files_fault_is_never_skipped(tmp_path, monkeypatch):
    """A missing permission would else lose a night's rows one file at a time."""
    (tmp_path / "a.csv").write_text("a\n1\n")
    source = open_path(tmp_path, on_bad_file="skip")
    inventory = source.inventory()

    for error, kind in [(PermissionError(13, "no"), SourceForbidden), (OSError(5, "EIO"), SourceUnavailable)]:

        def fail(uri, error=error):
            raise error

        monkeypatch.setattr(bytestream, "open_file", fail)
        with pytest.raises(kind):
            open_path(tmp_path, on_bad_file="skip").inventory()
        with pytest.raises(kind):
            replace(source, patience=Patience(0)).open_reader(inventory.schema).read(cut(inventory, 0, 1))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            f"{_REGION}: AWS Error NETWORK_CONNECTION during HeadBucket operation: curlCode: 6",
            SourceUnavailable,
        ),
        (f"{_REGION}: AWS Error SLOW_DOWN during HeadBucket operation: no", SourceUnavailable),
        (f"{_REGION}: AWS Error ACCESS_DENIED during HeadBucket operation: no", SourceForbidden),
        (f"{_REGION}: AWS Error UNKNOWN (HTTP status 400) during HeadBucket operation: no", SourceForbidden),
        (f"{_REGION}: AWS Error NO_SUCH_BUCKET during HeadBucket operation: no", SourceNotFound),
        ("Bucket 'nobody' not found", SourceNotFound),
    ],
)
def test_a_bucket_that_cannot_be_asked_for_its_region_may_be_there(monkeypatch, error, kind):
    def refuse(_bucket):
        raise OSError(error)

    monkeypatch.setattr(location, "_bucket_filesystem", refuse)
    with pytest.raises(DataError, match=r"s3://nobody/a\.csv: bucket 'nobody' cannot be opened: ") as caught:
        open_path("s3://nobody/a.csv").inventory()
    assert type(caught.value) is kind


@pytest.mark.case(38)
def test_columns_that_drift_are_told(tmp_path):
    tables = [
        pa.table({"a": pa.array([1, 2], pa.int32()), "b": ["x", "y"]}),
        pa.table({"a": pa.array([3], pa.int64())}),
        pa.table({"b": ["z"], "a": pa.array([4], pa.int64())}),
    ]
    for number, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{number}.parquet")
    drifts = {(d.column, d.found): d for d in open_path(tmp_path).inventory().drifts}
    assert set(drifts) == {("a", "int32"), ("b", None)}
    widened, missing = drifts["a", "int32"], drifts["b", None]
    assert (widened.read_as, widened.files, widened.rows) == ("int64", 1, 2)
    assert (missing.files, missing.rows, missing.first) == (1, 1, str(tmp_path / "1.parquet"))
    assert read_all(open_path(tmp_path)).table["a"].to_pylist() == [1, 2, 3, 4]


def test_files_that_agree_drift_nowhere(tmp_path):
    write_good(tmp_path)
    write_good(tmp_path, "c.parquet")
    assert open_path(tmp_path).inventory().drifts == ()
