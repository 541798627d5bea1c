import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import SourceUnreadable
from batchneuron.sources import FileId, jsonl, lines
from batchneuron.sources.jsonl import JsonLinesFormat
from tests.sources.reading import open_path, read_all, read_column, read_path, rejected


def write(path, *records):
    path.write_bytes(b"".join(record if isinstance(record, bytes) else record.encode() for record in records))
    return path


def write_values(path, key, *values):
    return write(path, *(f'{{"{key}": {value}}}\n' for value in values))


def schema_of(path):
    return open_path(path).inventory().schema


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "null", "-2"], pa.int64()),
        (["1", "2.5"], pa.float64()),
        (["1", "NaN"], pa.float64()),
        (["true", "false"], pa.bool_()),
        (['"2024-01-01"', '"2024-01-01T00:00:00Z"'], pa.string()),
        (['"01"', '"2"'], pa.string()),
        (["null", "null"], pa.string()),
        (["1", '"a"'], pa.string()),
        (["1", "true"], pa.string()),
        (["18446744073709551615", "1"], pa.string()),
        (["[1, 2]", "[1.5]", "[]"], pa.list_(pa.float64())),
        (["[]", "[]"], pa.list_(pa.string())),
        (["[1]", '["a"]'], pa.string()),
        (["[1]", '{"b": 1}'], pa.string()),
        (['{"b": 1}', '{"c": "x"}'], pa.struct([("b", pa.int64()), ("c", pa.string())])),
        (['{"b": null}', '{"b": [{}]}'], pa.struct([("b", pa.list_(pa.string()))])),
        (["{}", "{}"], pa.string()),
    ],
)
def test_types_are_told_from_the_values(tmp_path, values, kind):
    assert schema_of(write_values(tmp_path / "a.jsonl", "a", *values)) == pa.schema([("a", kind)])


def test_columns_are_the_union_over_files(tmp_path):
    write(tmp_path / "1.jsonl", '{"a": 1}\n{"b": null}\n')
    write(tmp_path / "2.jsonl", '{"b": 2.5, "c": [1]}\n')
    expected = pa.schema([("a", pa.int64()), ("b", pa.float64()), ("c", pa.list_(pa.int64()))])
    assert schema_of(tmp_path) == expected
    assert read_path(tmp_path)[1:] == [{"a": None, "b": None, "c": None}, {"a": None, "b": 2.5, "c": [1]}]


def test_the_sample_is_of_files_in_all_places(tmp_path):
    for number in range(100):
        write(tmp_path / f"{number:03d}.jsonl", '{"a": 1}\n' if number < 90 else '{"a": 1.5, "b": 1}\n')
    assert schema_of(tmp_path) == pa.schema([("a", pa.float64()), ("b", pa.int64())])


def test_values_of_mixed_type_are_text(tmp_path):
    path = write_values(tmp_path / "a.jsonl", "a", '"x"', "1", "2.5", "true", "null", '["é"]', '{"b": 1}')
    values = [row["a"] for row in read_path(path)]
    assert values == ["x", "1", "2.5", "true", None, '["é"]', '{"b": 1}']


@pytest.fixture
def short_sample(monkeypatch):
    """Types are told from the first two records, so that later ones can contradict."""
    monkeypatch.setattr(jsonl, "_SAMPLED_RECORDS", 2)


@pytest.mark.case(34, 37)
def test_bad_lines_reject_their_rows_alone(tmp_path, short_sample):
    path = write(
        tmp_path / "a.jsonl",
        b'\xef\xbb\xbf{"a": 1, "t": "x"}\r\n',
        "\n   \n",
        '{"a": 2, "t": "caf\u00e9"}\n',
        '{"a": 3, "t": \n',
        b'{"a": 4, "t": "\xff"}\n',
        "null\n",
        "[1]\n",
        '{"a": 7}{"a": 7}\n',
        '{"a": 8.5}\n',
        '{"a": "nine"}\n',
        '{"a": 10, "t": "\\ud800"}\n',
        '{"a": 99999999999999999999}\n',
        '{"a": 12, "t": 5}\n',
        '{"a": 13, "t": "end"',
    )
    rows = read_all(open_path(path))
    good = {0: (1, "x"), 1: (2, "café"), 11: (12, "5")}
    expected = [good.get(number, (None, None)) for number in range(13)]
    assert [tuple(row.values()) for row in rows.table.to_pylist()] == expected
    messages = rejected(rows)
    assert sorted(messages) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    # Lines, not records: two blank ones come after the first.
    assert all(f"a.jsonl: line {row + 3 if row else 1}: " in message for row, message in messages.items())
    assert "utf-8" in messages[3]
    assert "null where an object was expected" in messages[4]
    assert "column 'a': 8.5 where an integer was expected" in messages[7]
    assert "column 'a': a string where int64 was expected" in messages[8]


def test_an_integer_may_be_written_as_a_float(tmp_path, short_sample):
    path = write_values(tmp_path / "a.jsonl", "a", "1", "2", "3.0", "4e2")
    assert [row["a"] for row in read_path(path)] == [1, 2, 3, 400]


@pytest.mark.case(34)
def test_floats_take_what_json_has_no_word_for(tmp_path, short_sample):
    path = write_values(tmp_path / "a.jsonl", "a", "1.5", "2.5", "NaN", "-Infinity", "7", "1e400")
    values = [row["a"] for row in read_path(path)]
    assert values[2] != values[2]
    assert values[3:] == [float("-inf"), 7.0, float("inf")]


@pytest.mark.case(34)
def test_a_column_that_is_given_twice_rejects_its_row_alone(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        '{"a": 1, "s": {"x": 1}}\n{"a": 2, "a": 2}\n{"a": 3, "s": {"x": 1, "x": 2}}\n{"a": 4, "s": null}\n',
    )
    rows = read_all(open_path(path))
    assert [row["a"] for row in rows.table.to_pylist()] == [1, None, None, 4]
    assert "a.jsonl: line 2: column 'a' is given twice" in rejected(rows)[1]
    assert "a.jsonl: line 3: column 's': 'x' is given twice" in rejected(rows)[2]


def test_a_column_that_is_given_twice_and_not_wanted_does_no_harm(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1, "b": 1}\n{"a": 2, "b": 2, "b": 3}\n')
    rows = read_all(open_path(path), ["a"])
    assert rows.table.to_pydict() == {"a": [1, 2]} and not rows.rejections


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_number_without_a_value_is_no_text(tmp_path, word):
    path = write(tmp_path / "a.jsonl", '{"t": "x"}\n', f'{{"t": {word}}}\n', '{"t": 5}\n')
    rows = read_all(open_path(path))
    assert rows.table.to_pydict() == {"t": ["x", None, "5"]}
    assert f"line 2: column 't': {word} where text was expected" in rejected(rows)[1]


def test_columns_that_are_not_wanted_are_not_looked_at(tmp_path, short_sample):
    path = write(tmp_path / "a.jsonl", '{"a": 1, "b": 1}\n{"a": 2, "b": 2}\n{"a": 3, "b": "x"}\n')
    rows = read_all(open_path(path), ["a"])
    assert rows.table.to_pydict() == {"a": [1, 2, 3]}
    assert not rows.rejections
    assert rejected(read_all(open_path(path))).keys() == {2}


def test_nested_values(tmp_path):
    value = {"list": [1, None], "deep": {"text": "é", "none": None}, "rows": [{"x": 1}, {"x": 2}]}
    path = write(tmp_path / "a.jsonl", json.dumps({"v": value}), "\n", '{"v": {"deep": {"other": 1}}}')
    first, second = (row["v"] for row in read_path(path))
    assert first == {**value, "deep": {**value["deep"], "other": None}}
    assert second == {"list": None, "deep": {"text": None, "none": None, "other": 1}, "rows": None}


def test_an_empty_file_has_no_rows(tmp_path):
    assert open_path(write(tmp_path / "a.jsonl")).inventory().rows == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}]', "JSON array"),
        ('[\n{"a": 1}\n]\n', "JSON array"),
        ('{\n  "a": 1\n}\n', "over many lines"),
    ],
)
def test_a_whole_json_document_is_refused_with_a_hint(tmp_path, text, message):
    with pytest.raises(SourceUnreadable, match=f"a.json: is .*{message}(.|\n)*jq"):
        open_path(write(tmp_path / "a.json", text)).inventory()


@pytest.mark.case(34)
def test_deep_nesting_rejects_its_row_alone(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"a": 1}\n', '{"a": ' + "[" * 100_000 + "\n", '{"a": 3}\n')
    rows = read_all(open_path(path))
    assert rows.table.to_pydict() == {"a": [1, None, 3]}


@pytest.mark.case(34)
@pytest.mark.parametrize("neighbour", ['{"a": 3}', '{"a": '])
@pytest.mark.parametrize(("depth", "is_taken"), [(600, True), (1_500, False)])
def test_how_deep_a_line_may_be_nested_does_not_depend_on_its_neighbours(
    tmp_path, short_sample, neighbour, depth, is_taken
):
    """The deep column is one that nobody reads; of the closing brackets in its text none counts."""
    deep = '"' + "]" * depth + '", ' + "[" * depth + "]" * depth
    path = write(tmp_path / "a.jsonl", f'{{"a": 1}}\n{{"a": 2, "b": [{deep}]}}\n{neighbour}\n')
    rows = read_all(open_path(path), ["a"])
    assert rows.table["a"].to_pylist()[:2] == [1, 2 if is_taken else None]
    assert ("line 2: nested too deeply" in rejected(rows).get(1, "")) is not is_taken
    assert (2 in rejected(rows)) is (neighbour == '{"a": ')


def test_a_line_is_not_deep_because_it_is_long(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl.JsonParser, "_parse_each", lambda *_: pytest.fail("not in bulk"))
    value = [{"x": 'a [ and a " {'}] * 1_000
    assert read_path(write(tmp_path / "a.jsonl", json.dumps({"v": value}))) == [{"v": value}]


def test_text_that_can_be_read_and_not_written_for_its_depth_rejects_its_row_alone(tmp_path, short_sample):
    deep = ["[" * depth + "]" * depth for depth in range(900, 1_000)]
    path = write(tmp_path / "a.jsonl", "".join(f'{{"t": {text}}}\n' for text in ['"x"', *deep, '"y"']))
    texts = read_column(path, "t")
    assert (texts[0], texts[1], texts[-2], texts[-1]) == ("x", deep[0], None, "y")


GOOD = {
    "i": ["1", "-3", "null", "9223372036854775807"],
    "f": ["1", "2.5", "NaN", "-Infinity", "1e3", "0.1", "9007199254740993", "5e-324", "1" * 390, "1" * 420],
    "s": ['"x"', '"é"', '"\\ud83d\\ude00"', '"Inf"', '"\\u0000"', '", Inf"', "null"],
    "b": ["true", "false"],
    "l": ["[]", "[1, 2]", "[1.5, null]", "[NaN]", "null"],
    "t": ["{}", '{"x": 1}', '{"x": 1, "z": [3]}', '{"y": "q", "x": null}'],
    "z": ["1", '"z"', "{}", "[null]"],
}
BAD = [
    *"0123",
    "1.5",
    "1e400",
    "Inf",
    "-Inf",
    "-NaN",
    "nan",
    '"\\ud800"',
    '"\t"',
    "true",
    "[Inf]",
    '["q"]',
    '{"x": "s"}',
]
BAD += [
    '1, "i": 2',
    'null, "s": "y"',
    "99999999999999999999",
    '{"x": 1, "x": 2}',
    "",
    "01",
    ".5",
    "'a'",
    "[",
    "{",
    '"',
]
LINES = [
    b"",
    b"  ",
    b"null",
    b"[]",
    b"5",
    b'{"i": 1}{"i": 2}',
    b'{"i": 1} null {"i": 2}',
    b'{"i":',
    b"1}",
    b"\0",
]
LINES += [b'{"s": "\xff"}', b'{"z": "\xff"}', b' {"i": 1} ', b"}", b"{", b"\xef\xbb\xbf{}", b'{"i": 1},']
SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.bool_()),
        ("l", pa.list_(pa.float64())),
        ("t", pa.struct([("x", pa.int64()), ("y", pa.string())])),
    ]
)


@st.composite
def json_lines(draw):
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(LINES))
    members = []
    for key in draw(st.lists(st.sampled_from(list(GOOD)), max_size=4, unique=True)):
        is_bad = draw(st.integers(0, 19)) == 0
        members.append(f'"{key}": {draw(st.sampled_from(BAD if is_bad else GOOD[key]))}')
    return ("{" + ", ".join(members) + "}").encode()


@settings(max_examples=150, deadline=None)
@given(records=st.lists(json_lines(), max_size=8))
def test_what_a_line_becomes_does_not_depend_on_its_neighbours(tmp_path_factory, records):
    """Arrow parses in bulk, Python one by one, by what else is in the chunk: both must say the same."""
    path = write(tmp_path_factory.mktemp("rows") / "a.jsonl", b"\n".join(records))
    outcomes = []
    for chunk_bytes in (1, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lines, "CHUNK_BYTES", chunk_bytes)
            cursor = JsonLinesFormat().open_cursor(FileId(str(path), 0, ""), SCHEMA)
            rows = []
            while (taken := cursor.take(1000)).table.num_rows:
                first = cursor.row - taken.table.num_rows
                bad = {first + rejection.row: rejection.message for rejection in taken.rejections}
                rows += [(repr(row), bad.get(first + at)) for at, row in enumerate(taken.table.to_pylist())]
            outcomes.append(rows)
    assert outcomes[0] == outcomes[1]
