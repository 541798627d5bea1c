"""What a record is, in bulk and in chunks of any size; gzip on the way."""

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import SourceUnreadable
from batchneuron.sources import FileId, gzipped, lines
from batchneuron.sources.grammar import JsonLines, QuotedLines
from batchneuron.sources.lines import RecordScanner, scan_blocks
from tests.sources.reading import cut, open_path, read_all, read_column, rejected


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
        scanner.seek(block.row_lo, block.position, block.line)
        assert scanner.next_records().text(0) == b"row %d" % block.row_lo


@pytest.fixture
def short_records(monkeypatch):
    """Records may have 64 bytes."""
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 64)


LONG_JSON = '{"a": 1}\n\n{"a": "' + "x" * 56 + '"}\n{"a": 2}\n{"a": "' + "y" * 500 + '"}'
LONG_CSV = 'id,text\n1,a\n2,"' + 'x\n""' * 99 + '\n"\n3,b\n4,"' + "y\n" * 25 + '"\n5,c\n'


@pytest.mark.case(34, 35)
@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 50, 1 << 20])
def test_a_record_that_is_too_long_rejects_its_row_alone(tmp_path, monkeypatch, short_records, chunk_bytes):
    monkeypatch.setattr(lines, "CHUNK_BYTES", chunk_bytes)
    (tmp_path / "a.jsonl").write_text(LONG_JSON)
    (tmp_path / "a.csv").write_text(LONG_CSV)
    rows = read_all(open_path(tmp_path / "a.jsonl"))
    assert rows.table.to_pydict() == {"a": [1, None, 2, None]}
    assert [message.split("a.jsonl: ")[1] for message in rejected(rows).values()] == [
        "line 3: 65 bytes, and a record may have 64",
        "line 5: 509 bytes, and a record may have 64",
    ]
    rows = read_all(open_path(tmp_path / "a.csv"))
    assert rows.table["id"].to_pylist() == ["1", None, "3", "4", "5"]
    assert "a.csv: line 3: 401 bytes, and a record may have 64" in rejected(rows)[1]


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(
        st.sampled_from(["a", "bb,", '"', '""', "\n", "\r\n", "\r", " ", '"q\n"', ","]), max_size=60
    ),
    chunk_bytes=st.integers(1, 9),
)
def test_what_is_too_long_does_not_depend_on_chunks(tmp_path_factory, tokens, chunk_bytes):
    """Records, their lines and their lengths: found a few bytes at a time, and all at once."""
    path = tmp_path_factory.mktemp("rows") / "a"
    path.write_bytes("".join(tokens).encode())
    for grammar in (JsonLines(), QuotedLines(b",")):
        found = []
        for size in (chunk_bytes, 1 << 20):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(lines, "CHUNK_BYTES", size)
                patch.setattr(lines, "MAX_RECORD_BYTES", 10)
                found.append(_list_records(path, grammar))
        assert found[0] == found[1]


def _list_records(path, grammar):
    scanner = RecordScanner(FileId(str(path), 0, ""), grammar)
    found = []
    try:
        while (records := scanner.next_records()) is not None:
            for index, (place, is_long) in enumerate(
                zip(records.name_places(0), records.too_long.tolist(), strict=True)
            ):
                found.append((place, "too long" if is_long else records.text(index)))
    except SourceUnreadable as error:
        found = [error.what]
    return found


def test_a_block_after_a_long_record_is_found_again(tmp_path, monkeypatch, short_records):
    monkeypatch.setattr(lines, "CHUNK_BYTES", 16)
    monkeypatch.setattr(lines, "BLOCK_RECORDS", 1)
    (tmp_path / "a.jsonl").write_text(LONG_JSON)
    source = open_path(tmp_path / "a.jsonl")
    inventory = source.inventory()
    assert [block.line for block in inventory.files[0].blocks] == [1, 3, 4, 5]
    reader = source.open_reader(inventory.schema)
    for row, value, places in [(3, None, ["line 5"]), (2, 2, []), (1, None, ["line 3"]), (0, 1, [])]:
        rows = reader.read(cut(inventory, row, row + 1))
        assert rows.table["a"].to_pylist() == [value]
        assert [message.split(": ")[1] for message in rejected(rows).values()] == places


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


@pytest.mark.case(36)
@pytest.mark.parametrize("members", [1, 2, 100])
def test_gzip_of_any_number_of_members(tmp_path, members):
    size = -(-len(DATA) // members)
    parts = [gzip.compress(DATA[at : at + size]) for at in range(0, len(DATA), size)]
    (tmp_path / "a.jsonl.gz").write_bytes(b"".join(parts))
    assert read_column(tmp_path / "a.jsonl.gz", "a") == list(range(100))


@pytest.mark.case(36)
@pytest.mark.parametrize("padding", [1, 511, 3 << 20])
def test_zeros_after_a_member_of_gzip_are_padding(tmp_path, padding):
    """Python's gzip reads such a file whole; before the first member they are damage, for it too."""
    middle, zeros = len(DATA) // 2, bytes(padding)
    data = gzip.compress(DATA[:middle]) + zeros + gzip.compress(DATA[middle:]) + zeros
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    assert gzip.decompress(data) == DATA
    assert read_column(tmp_path / "a.jsonl.gz", "a") == list(range(100))

    (tmp_path / "a.jsonl.gz").write_bytes(zeros + data)
    with pytest.raises(SourceUnreadable, match="is not gzip data"):
        open_path(tmp_path / "a.jsonl.gz").inventory()


@pytest.mark.case(36)
def test_truncated_gzip_names_the_file_and_the_rows_before_the_end(tmp_path):
    data = gzip.compress(DATA, compresslevel=0)
    (tmp_path / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceUnreadable, match=r"a\.jsonl\.gz: is not whole gzip data: .*, after 50 rows"):
        open_path(tmp_path / "a.jsonl.gz").inventory()


@pytest.mark.case(36)
def test_every_truncation_of_gzip_is_found(tmp_path):
    data = gzip.compress(DATA)
    whole = data + data
    for size in range(0, len(whole), 3):
        if size == len(data):
            continue
        (tmp_path / "a.jsonl.gz").write_bytes(whole[:size])
        with pytest.raises(SourceUnreadable):
            open_path(tmp_path / "a.jsonl.gz").inventory()


@pytest.mark.case(36)
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


@pytest.mark.case(36)
def test_a_long_line_in_gzip_rejects_its_row_alone(tmp_path, short_records):
    text = b'{"a": 1}\n{"a": "' + bytes(1 << 20) + b'"}\n{"a": 3}\n'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text))
    rows = read_all(open_path(tmp_path / "a.jsonl.gz"))
    assert rows.table.to_pydict() == {"a": [1, None, 3]}
    assert "line 2: 1,048,585 bytes" in rejected(rows)[1]


def test_a_gzip_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(gzipped, "UNSUSPECTED_BYTES", 1 << 22)
    bomb = gzip.compress(b'{"a": 1}\n' + b"\n" * (1 << 26))
    (tmp_path / "a.jsonl.gz").write_bytes(bomb)
    with pytest.raises(SourceUnreadable, match=r"a\.jsonl\.gz: is a gzip bomb: [\d,]+ bytes have grown to"):
        open_path(tmp_path / "a.jsonl.gz").inventory()


def test_what_shrinks_a_lot_and_is_small_is_no_bomb(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 500_000))
    assert open_path(tmp_path / "a.jsonl.gz").inventory().rows == 500_000
