"""What a record is, in bulk and in chunks of any size; gzip on the way."""

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import SourceUnreadable
from batchneuron.sources import FileId, lines
from batchneuron.sources.lines import JsonLines, QuotedLines, RecordScanner, scan_blocks
from tests.sources.reading import open_path, read_all, read_column


def scan(path, grammar, chunk_bytes=lines.CHUNK_BYTES):
    """The file's records, and its blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk_bytes)
        scanner = RecordScanner(FileId(str(path), 0, ""), grammar)
        found = []
        while (records := scanner.next_records()) is not None:
            found += [records.text(index) for index in range(len(records))]
        return found, scan_blocks(RecordScanner(FileId(str(path), 0, ""), grammar))


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"", []),
        (b"\n\n", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\r\n\r\nc\r", [b"a", b"b", b"c"]),
        (b"\xef\xbb\xbfa\n", [b"a"]),
        (b"\xef\xbb\xbf", []),
        (b"\n  \n\t\r\na\n \n", [b"a"]),
        (b" a \n", [b" a "]),
    ],
)
def test_lines(tmp_path, data, records):
    (tmp_path / "a").write_bytes(data)
    assert scan(tmp_path / "a", JsonLines())[0] == records
    assert scan(tmp_path / "a", JsonLines(), chunk_bytes=1)[0] == records


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b'1,"a\nb"\n2,c\n', [b'1,"a\nb"', b"2,c"]),
        (b'1,"a""\n"\n2\n', [b'1,"a""\n"', b"2"]),
        (b'""\n"""\n"\n', [b'""', b'"""\n"']),
        (b'5" pipe,x\n6,y\n', [b'5" pipe,x', b"6,y"]),
        (b'5" and 6"\n"a\n"\n', [b'5" and 6"', b'"a\n"']),
        (b'a,"b"c"\n"d\n"\n', [b'a,"b"c"', b'"d\n"']),
        (b"a\n\n \nb\r\n\r\n", [b"a", b" ", b"b"]),
    ],
)
def test_quoted_lines(tmp_path, data, records):
    (tmp_path / "a").write_bytes(data)
    assert scan(tmp_path / "a", QuotedLines(b","))[0] == records
    assert scan(tmp_path / "a", QuotedLines(b","), chunk_bytes=1)[0] == records


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(st.text('ab",\n é', min_size=1), min_size=2, max_size=2), max_size=8))
def test_records_are_those_of_the_csv_module(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "a.csv"
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    path.write_text(buffer.getvalue())
    for chunk_bytes in (1, 7, 1 << 20):
        records, blocks = scan(path, QuotedLines(b","), chunk_bytes)
        assert [next(csv.reader([record.decode()])) for record in records] == rows
        assert sum(block.rows for block in blocks) == len(rows)


def test_blocks_start_where_their_records_start(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_RECORDS", 3)
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + b"".join(b"\nrow %d\r\n" % n for n in range(10)))
    file = FileId(str(tmp_path / "a"), 0, "")
    blocks = scan_blocks(RecordScanner(file, JsonLines()))
    assert [(b.row_lo, b.rows) for b in blocks] == [(0, 3), (3, 3), (6, 3), (9, 1)]
    for block in blocks:
        scanner = RecordScanner(file, JsonLines())
        scanner.seek(block.row_lo, block.position)
        assert scanner.next_records().text(0) == b"row %d" % block.row_lo


def test_a_long_record_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1 << 14)
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n{"a": "' + b"x" * (1 << 20))
    with pytest.raises(SourceUnreadable, match=r"a\.jsonl: the record at byte 9 is longer than"):
        open_path(tmp_path / "a.jsonl").inventory()


def test_a_record_of_many_chunks_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 100)
    text = "long " * 5000
    (tmp_path / "a.csv").write_text(f'id,text\n1,"{text}\n"\n2,x\n')
    assert read_column(tmp_path / "a.csv", "text") == [text + "\n", "x"]


def test_a_quote_that_never_closes_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,a\n2,"b\n3,c\n4,d\n')
    with pytest.raises(SourceUnreadable, match=r"a\.csv: a quote in the record at byte 12 is never closed"):
        open_path(tmp_path / "a.csv").inventory()


DATA = b"".join(b'{"a": %d}\n' % n for n in range(100))


@pytest.mark.parametrize("members", [1, 2, 100])
def test_gzip_of_any_number_of_members(tmp_path, members):
    size = -(-len(DATA) // members)
    parts = [gzip.compress(DATA[at : at + size]) for at in range(0, len(DATA), size)]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(parts))
    assert read_column(tmp_path / "a.jsonl.gz", "a") == list(range(100))


def test_truncated_gzip_names_the_file_and_the_rows_before_the_end(tmp_path):
    data = gzip.compress(DATA, compresslevel=0)
    (tmp_path / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceUnreadable, match=r"a\.jsonl\.gz: is not whole gzip data: .*, after 50 rows"):
        open_path(tmp_path / "a.jsonl.gz").inventory()


def test_every_truncation_of_gzip_is_found(tmp_path):
    data = gzip.compress(DATA)
    whole = data + data
    for size in range(0, len(whole), 3):
        if size == len(data):
            continue
        (tmp_path / "a.jsonl.gz").write_bytes(whole[:size])
        with pytest.raises(SourceUnreadable):
            open_path(tmp_path / "a.jsonl.gz").inventory()


@pytest.mark.parametrize("at", [-6, 20, 0])
def test_damaged_gzip_is_found(tmp_path, at):
    data = bytearray(gzip.compress(DATA))
    data[at] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    with pytest.raises(SourceUnreadable, match=r"a\.jsonl\.gz"):
        open_path(tmp_path / "a.jsonl.gz").inventory()


@pytest.mark.parametrize(
    ("head", "what"), [(b"PAR1", "Parquet"), (b"\x1f\x8b", "gzip"), (b"\xff\xfe{\0", "UTF-16")]
)
def test_other_formats_are_named(tmp_path, head, what):
    (tmp_path / "a.jsonl").write_bytes(head + b'{"a": 1}\n')
    with pytest.raises(SourceUnreadable, match=what):
        open_path(tmp_path / "a.jsonl").inventory()


def test_a_gzip_bomb_costs_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1 << 24)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": "' + bytes(1 << 27)))
    with pytest.raises(SourceUnreadable, match="longer than 16 MiB"):
        read_all(open_path(tmp_path / "a.jsonl.gz"))
