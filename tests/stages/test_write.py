"""Parts: readable by anything, vectors stored well, and no half a file left when the disk is full."""

import errno
import re
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.disk import explain_disk_error
from batchneuron.errors import OutputUnfit, OutputUnwritable, WorkerFailed
from batchneuron.stages import write
from batchneuron.stages.columns import ERROR_TYPE
from batchneuron.stages.write import write_part


def make_table(rows=37):
    numbers = np.random.default_rng(0).normal(size=(rows, 4))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers.astype(np.float32).reshape(-1)), 4)
    halves = pa.FixedSizeListArray.from_arrays(pa.array(numbers.astype(np.float16).reshape(-1)), 4)
    tokens = pa.array([[[1.0, 2.0]] * (row % 3) for row in range(rows)], pa.list_(pa.list_(pa.float32(), 2)))
    return pa.table(
        {
            "_row": pa.array(range(rows), pa.int64()),
            "label": pa.array(["good", "bad", None, "fair"] * rows, pa.string())[:rows],
            "embedding": vectors,
            "half": halves,
            "tokens": tokens,
            "measured": pa.array([[0.5, None]] * rows, pa.list_(pa.float64())),
            "tags": pa.array([["a", "b"]] * rows, pa.list_(pa.string())),
            "_error": pa.array([None] * rows, ERROR_TYPE),
        }
    )


def columns_of(path):
    group = pq.read_metadata(path).row_group(0)
    return {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}


@pytest.mark.parametrize("compression", ["zstd", "snappy", "lz4", "gzip", "none"])
@pytest.mark.parametrize("rows", [0, 37])
def test_what_is_written_is_read_back(tmp_path, rows, compression):
    table, path = make_table(rows), tmp_path / "part.parquet"

    written = write_part(table, path, {}, compression)

    assert pq.read_table(path).equals(table)
    assert written.path == path
    assert written.size_bytes == path.stat().st_size
    assert written.sha256 == sha256(path.read_bytes()).hexdigest()


def test_the_same_table_gives_the_same_bytes(tmp_path):
    digests = {write_part(make_table(), tmp_path / name, {"a": "b"}, "zstd").sha256 for name in "xy"}

    assert len(digests) == 1


def test_the_footer_carries_the_metadata_and_what_the_table_had(tmp_path):
    table = make_table().replace_schema_metadata({"origin": "é"})

    write_part(table, tmp_path / "part", {"batchneuron.shard": "3 of 7", "model": "名"}, "zstd")

    metadata = pq.read_metadata(tmp_path / "part").metadata
    assert metadata[b"batchneuron.shard"] == b"3 of 7"
    assert metadata[b"model"].decode() == "名"
    assert metadata[b"origin"].decode() == "é"


def test_vectors_have_no_dictionary_and_split_bytes(tmp_path):
    write_part(make_table(), tmp_path / "part", {}, "zstd")

    columns = columns_of(tmp_path / "part")
    split = [path for path, column in columns.items() if "BYTE_STREAM_SPLIT" in column.encodings]
    assert split == ["embedding.list.element", "tokens.list.element.list.element", "measured.list.element"]
    # DuckDB reads halves plain only.
    assert not any(columns[path].has_dictionary_page for path in [*split, "half.list.element"])


def test_labels_have_a_dictionary(tmp_path):
    write_part(make_table(), tmp_path / "part", {}, "zstd")

    assert columns_of(tmp_path / "part")["label"].has_dictionary_page


def test_labels_inside_lists_have_a_dictionary_too(tmp_path):
    write_part(make_table(), tmp_path / "part", {}, "zstd")

    assert columns_of(tmp_path / "part")["tags.list.element"].has_dictionary_page


def test_row_groups_are_of_a_size_that_readers_can_hold(tmp_path, monkeypatch):
    table = make_table(370)
    monkeypatch.setattr(write, "_ROW_GROUP_BYTES", table.nbytes // 5)

    write_part(table, tmp_path / "part", {}, "zstd")

    metadata = pq.read_metadata(tmp_path / "part")
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert sum(sizes) == 370
    assert len(sizes) in (5, 6)


def test_pages_have_an_index_and_checksums(tmp_path):
    write_part(make_table(), tmp_path / "part", {}, "none")

    assert all(
        column.has_column_index for path, column in columns_of(tmp_path / "part").items() if path == "_row"
    )
    content = bytearray((tmp_path / "part").read_bytes())
    content[columns_of(tmp_path / "part")["embedding.list.element"].data_page_offset + 60] ^= 1
    (tmp_path / "part").write_bytes(content)
    with pytest.raises(OSError, match="checksum"):
        pq.read_table(tmp_path / "part", page_checksum_verification=True)


@pytest.mark.case(8)
def test_a_full_disk_leaves_no_file_and_says_what_to_do(tmp_path, monkeypatch):
    def fill_disk(table, path, **_):
        path.write_bytes(b"PAR1 and then no more")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write.pq, "write_table", fill_disk)

    with pytest.raises(OutputUnwritable, match=r"(?s)the disk is full.*free some space") as caught:
        write_part(make_table(), tmp_path / "part", {}, "zstd")

    assert caught.value.where == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.case(8)
def test_the_kernel_s_own_full_disk(tmp_path):
    """Arrow's error must carry the number, or this would be a WorkerFailed that is tried again."""
    path = tmp_path / "part"
    path.symlink_to("/dev/full")

    with pytest.raises(OutputUnwritable, match="the disk is full"):
        write_part(make_table(), path, {}, "zstd")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputUnwritable, match="cannot write"):
        write_part(make_table(), tmp_path / "gone" / "part", {}, "zstd")


def test_a_file_that_lost_rows_is_made_again(tmp_path, monkeypatch):
    whole = write.pq.write_table
    monkeypatch.setattr(
        write.pq, "write_table", lambda table, path, **how: whole(table.slice(1), path, **how)
    )

    with pytest.raises(WorkerFailed, match="wrote 37 rows, the file holds 36"):
        write_part(make_table(), tmp_path / "part", {}, "zstd")


@pytest.mark.case(10)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS])
def test_what_only_the_user_can_mend_is_not_tried_again(tmp_path, number):
    error = explain_disk_error(OSError(number, "x"), tmp_path / "part", 5 << 20)

    assert isinstance(error, OutputUnwritable)
    assert not error.retryable


@pytest.mark.case(9)
def test_an_io_error_is_tried_again(tmp_path):
    error = explain_disk_error(OSError(errno.EIO, "x"), tmp_path / "part", 0)

    assert isinstance(error, WorkerFailed)
    assert error.retryable


def test_a_part_that_is_too_large_says_how_many_rows_would_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "MAX_PART_BYTES", 4096)
    path = tmp_path / "part"

    with pytest.raises(OutputUnfit, match="a part of 2000 rows takes") as caught:
        write_part(pa.table({"value": np.random.default_rng(0).random(2000)}), path, {}, "zstd")

    rows = int(re.search(r"output.shard_rows to (\d+) or fewer", caught.value.hint)[1])
    assert 0 < rows < 2000 * 4096 // 16000 * 2
    assert not path.exists()
