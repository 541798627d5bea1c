import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import SourceUnreadable
from batchneuron.sources import FileId, csv, lines
from batchneuron.sources.csv import CsvFormat
from batchneuron.sources.grammar import find_feeds
from tests.sources.reading import open_path, read_all, read_column, read_path, rejected


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_every_column_is_text_as_it_was_written(tmp_path):
    path = write(tmp_path / "a.csv", "id,n,empty,null\n01234,1.50,,NULL\n-0,1e5,,nan\n")
    assert read_path(path) == [
        {"id": "01234", "n": "1.50", "empty": "", "null": "NULL"},
        {"id": "-0", "n": "1e5", "empty": "", "null": "nan"},
    ]


@pytest.mark.case(35)
def test_quotes_delimiters_and_line_breaks_in_fields(tmp_path):
    path = write(
        tmp_path / "a.csv", 'id,text\r\n1,"a, b"\r\n2,"line\r\nbreak"\r\n3,"say ""hi"""\r\n4,5" pipe\r\n'
    )
    assert read_column(path, "text") == ["a, b", "line\r\nbreak", 'say "hi"', '5" pipe']


def test_a_byte_order_mark_and_blank_lines_are_no_data(tmp_path):
    path = write(tmp_path / "a.csv", b"\xef\xbb\xbf\n\nid,text\n\n1,a\n\r\n\n2,b\n\n")
    assert read_path(path) == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]


def test_of_one_column_a_quoted_nothing_is_a_row_and_a_blank_line_is_none(tmp_path):
    assert read_column(write(tmp_path / "a.csv", 'text\n""\n\n \nx\n'), "text") == ["", " ", "x"]


@pytest.mark.case(35, 37)
def test_ragged_and_undecodable_records_reject_their_rows_alone(tmp_path):
    path = write(
        tmp_path / "a.csv", b'id,text\n1,a\n2\n3,b,c\n4,"x\ny"\n5,\xff\n6,\r7\n8,\xc3\xa9\n9,z,\xff\n'
    )
    rows = read_all(open_path(path))
    good = {0: ("1", "a"), 3: ("4", "x\ny"), 6: ("8", "é")}
    assert [tuple(row.values()) for row in rows.table.to_pylist()] == [
        good.get(number, (None, None)) for number in range(8)
    ]
    messages = rejected(rows)
    assert "a.csv: line 3: 1 fields where 2 were expected" in messages[1]
    assert "a.csv: line 4: 3 fields where 2 were expected" in messages[2]
    assert "a.csv: line 7: column 'text' is not UTF-8" in messages[4]
    assert sorted(messages) == [1, 2, 4, 5, 7]
    assert "a.csv: line 10: " in messages[7]  # a record of two lines came before


def test_broken_records_are_looked_up_in_the_chunk_together(tmp_path, monkeypatch):
    """The chunk is 4 MiB: a look through it for each of them takes minutes for a file in Latin-1."""
    searched = []

    def find(data):
        searched.append(len(data))
        return find_feeds(data)

    monkeypatch.setattr(lines, "find_feeds", find)
    path = write(tmp_path / "a.csv", b"id,text\n" + b"1,a\n2\n3,\xff\n" * 200)
    messages = rejected(read_all(open_path(path)))
    assert [row % 3 for row in messages] == [1, 2] * 200
    assert "line 600: " in messages[598] and "line 601: column 'text'" in messages[599]
    assert len(searched) <= 3


def test_records_that_are_not_utf8_are_parsed_with_the_others(tmp_path, monkeypatch):
    """Each by itself would cost as much as a thousand together."""
    parsed = []
    parse = csv.arrow_csv.read_csv
    monkeypatch.setattr(csv.arrow_csv, "read_csv", lambda *a, **k: parsed.append(1) or parse(*a, **k))
    path = write(tmp_path / "a.csv", b"id,text,note\n" + b"1,a,\xff\n2,\xff,b\n3,\xc3\xa9,c\n" * 100)
    rows = read_all(open_path(path), ["id", "text"])
    assert sorted(rejected(rows)) == list(range(1, 300, 3))
    assert rows.table["text"].to_pylist() == ["a", None, "é"] * 100
    assert len(parsed) == 1


def test_a_file_of_ragged_records_only(tmp_path):
    rows = read_all(open_path(write(tmp_path / "a.csv", "id,text\n1\n2\n3\n")))
    assert rejected(rows).keys() == {0, 1, 2}
    assert rows.table.to_pylist() == [{"id": None, "text": None}] * 3


def test_columns_that_are_not_wanted_are_not_looked_at(tmp_path):
    rows = read_all(open_path(write(tmp_path / "a.csv", b"id,text\n1,\xff\n2,b\n")), ["id"])
    assert rows.table.to_pydict() == {"id": ["1", "2"]}
    assert not rows.rejections


def test_tabs_separate_where_the_name_says_so(tmp_path):
    path = write(tmp_path / "a.tsv", 'id\ttext\n1\ta, b\n2\t"x\ty"\n')
    assert read_column(path, "text") == ["a, b", "x\ty"]


def test_files_may_have_other_columns_in_another_order(tmp_path):
    write(tmp_path / "1.csv", "a,b\n1,2\n")
    write(tmp_path / "2.csv", "c,a\n3,4\n")
    assert read_path(tmp_path) == [{"a": "1", "b": "2", "c": None}, {"a": "4", "b": None, "c": "3"}]
    assert read_column(tmp_path, "b") == ["2", None]


def test_a_header_alone_is_a_file_of_no_rows(tmp_path):
    inventory = open_path(write(tmp_path / "a.csv", "id,text\n")).inventory()
    assert inventory.rows == 0
    assert inventory.schema.names == ["id", "text"]


def test_a_quoted_header(tmp_path):
    assert read_path(write(tmp_path / "a.csv", '"a, b","c\nd"\n1,2\n')) == [{"a, b": "1", "c\nd": "2"}]


@pytest.mark.case(35)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has no header line"),
        (b"\n\n", "has no header line"),
        (b"a,b,a\n1,2,3\n", "has more than one column named 'a'"),
        (b"a,\xff\n1,2\n", "has no readable header line"),
    ],
)
def test_a_file_without_a_usable_header_is_refused(tmp_path, data, message):
    with pytest.raises(SourceUnreadable, match=f"a.csv: {message}"):
        open_path(write(tmp_path / "a.csv", data)).inventory()


TOKENS = [
    "a",
    "b",
    ",",
    ",",
    '"',
    '"',
    '""',
    "\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "é",
    "x,y\n",
    '"q,r",z\n',
    "\udcff",
    "\ufeff",
]


@settings(max_examples=150, deadline=None)
@given(tokens=st.lists(st.sampled_from(TOKENS), max_size=25), columns=st.integers(1, 2))
def test_what_a_record_becomes_does_not_depend_on_its_neighbours(tmp_path_factory, tokens, columns):
    header = ["h", "k"][:columns]
    text = ",".join(header) + "\n" + "".join(tokens)
    path = write(tmp_path_factory.mktemp("rows") / "a.csv", text.encode(errors="surrogateescape"))
    schema = pa.schema([(name, pa.string()) for name in header])
    outcomes = []
    for chunk_bytes in (1, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "CHUNK_BYTES", chunk_bytes)
            outcomes.append(_read_all(path, schema))
    assert outcomes[0] == outcomes[1]


def _read_all(path, schema):
    cursor = CsvFormat().open_cursor(FileId(str(path), 0, ""), schema)
    rows = []
    try:
        while (taken := cursor.take(1000)).table.num_rows:
            bad = {rejection.row for rejection in taken.rejections}
            rows += [(row, at in bad) for at, row in enumerate(taken.table.to_pylist())]
    except SourceUnreadable as error:
        assert "never closed" in str(error)
        return "unclosed"
    return rows
