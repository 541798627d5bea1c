"""Text that is not UTF-8: its row is rejected, or U+FFFD stands for the bytes that nobody can read."""

import gzip

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tests.sources.reading import open_path, read_all, read_column, read_path, rejected

BYTES = [b"plain", b"na\xefve", "日本".encode(), b"cut off: \xe6\x97", b"\xff\xfe", b"", b"\xed\xa0\xbd"]
MENDED = ["plain", "na\ufffdve", "日本", "cut off: \ufffd", "\ufffd\ufffd", "", "\ufffd\ufffd\ufffd"]
BAD = [1, 3, 4, 6]


def write_table(write):
    return lambda path: write(pa.table({"text": pa.array(BYTES, pa.binary()).view(pa.string())}), str(path))


def write_lines(path):
    path.write_bytes(b"".join(b'{"text": "%b"}\r\n' % text for text in BYTES))


def write_csv(path):
    data = b"\xef\xbb\xbftext,n\n" + b"".join(b'"%b",1\n' % text for text in BYTES)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


KINDS = {
    "a.jsonl": write_lines,
    "a.csv": write_csv,
    "a.csv.gz": write_csv,
    "a.parquet": write_table(pq.write_table),
    "a.arrow": write_table(pyarrow.feather.write_feather),
}


@pytest.mark.case(37)
@pytest.mark.parametrize("name", KINDS)
def test_bytes_that_are_not_utf8_reject_their_row_or_are_replaced(tmp_path, name):
    path = tmp_path / name
    KINDS[name](path)

    rows = read_all(open_path(path), ["text"])
    assert sorted(rejected(rows)) == BAD
    assert rows.table["text"].to_pylist() == [None if i in BAD else text for i, text in enumerate(MENDED)]

    rows = read_all(open_path(path, encoding_errors="replace"), ["text"])
    assert rejected(rows) == {}
    assert rows.table["text"].to_pylist() == MENDED


@pytest.mark.case(37)
def test_what_is_broken_otherwise_stays_rejected_by_its_line(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,\xff\n2\n3,\xff,\xff\n4,d\n")
    rows = read_all(open_path(tmp_path / "a.csv", encoding_errors="replace"))
    assert rows.table["text"].to_pylist() == ["\ufffd", None, None, "d"]
    assert sorted(rejected(rows)) == [1, 2]
    assert "a.csv: line 3: " in rejected(rows)[1] and "a.csv: line 4: " in rejected(rows)[2]

    (tmp_path / "a.jsonl").write_bytes(
        b'{"text": "\xff"}\n{"text": \xff}\n{"text": "\\ud83d"}\n{"text": "d"}\n'
    )
    rows = read_all(open_path(tmp_path / "a.jsonl", encoding_errors="replace"))
    assert rows.table["text"].to_pylist() == ["\ufffd", None, None, "d"]
    assert ["line 2" in rejected(rows)[1], "line 3" in rejected(rows)[2]] == [True, True]


def test_a_file_in_latin_1_has_its_columns_all_the_same(tmp_path):
    """They are told from the first lines, none of which is UTF-8."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "\xe9t\xe9", "n": 1}\n' * 3)
    assert (
        read_path(tmp_path / "a.jsonl", encoding_errors="replace") == [{"text": "\ufffdt\ufffd", "n": 1}] * 3
    )
    assert read_column(tmp_path / "a.jsonl", "text") == [None] * 3
