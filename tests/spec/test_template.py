import datetime
import decimal
import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.errors import ColumnMissing
from batchneuron.spec.template import Column, Template, parse_template

names = st.text(st.characters(exclude_characters="{}.[!:", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name == name.strip()
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@st.composite
def templates(draw):
    """Templates as the parser makes them: no two texts side by side, and at least one column."""
    parts = []
    for part in draw(st.lists(st.one_of(texts, names.map(Column)), max_size=6)):
        if isinstance(part, Column) or not parts or isinstance(parts[-1], Column):
            parts.append(part)
    if not any(isinstance(part, Column) for part in parts):
        parts.append(Column(draw(names)))
    return Template(tuple(parts))


@given(templates())
def test_a_template_survives_writing_and_parsing(template):
    assert parse_template(str(template)) == template
    assert pickle.loads(pickle.dumps(template)) == template


@given(templates(), st.data())
def test_filling_is_what_joining_row_by_row_gives(template, data):
    rows = data.draw(st.integers(0, 4))
    values = st.lists(st.one_of(st.none(), texts), min_size=rows, max_size=rows)
    columns = {name: data.draw(values) for name in template.columns}
    table = pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})

    expected = []
    for row in range(rows):
        pieces = [columns[part.name][row] if isinstance(part, Column) else part for part in template.parts]
        expected.append(None if None in pieces else "".join(pieces))
    filled = template.fill(table)

    assert filled.type == pa.large_string()
    assert filled.to_pylist() == expected


def test_a_text_without_braces_is_a_column():
    template = parse_template("review text")

    assert template.is_plain
    assert template.columns == ("review text",)
    assert str(template) == "review text"
    assert not parse_template("{review text}").is_plain


def test_columns_are_told_once_and_in_order():
    assert parse_template("{b} {a} {b}").columns == ("b", "a")


def test_double_braces_are_braces():
    table = pa.table({"a": ["x"]})

    assert parse_template("{{{a}}} {{}}").fill(table).to_pylist() == ["{x} {}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("{title", "'{' without its pair at character 1"),
        ("a } b", "'}' without its pair at character 3"),
        ("{a{b}}", "'{' without its pair at character 1"),
        ("{}", "no column in the braces"),
        ("{ a }", "spaces"),
        ("{a.__class__}", "no attributes"),
        ("{a[0]}", "no indices"),
        ("{a!r}", "no conversions"),
        ("{a:>10}", "no formats"),
        ("{{a}}", "names no column"),
    ],
)
def test_anything_but_a_name_in_braces_is_refused(text, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        parse_template(text)


@pytest.mark.parametrize(
    ("column", "written"),
    [
        (pa.array(["a", None], pa.string_view()), "a"),
        (pa.array(["a", None]).dictionary_encode(), "a"),
        (pa.array([7, None], pa.uint8()), "7"),
        (pa.array([1.5, None], pa.float32()), "1.5"),
        (pa.array([True, None]), "true"),
        (pa.array([decimal.Decimal("1.10"), None]), "1.10"),
        (pa.array([datetime.date(2026, 11, 22), None]), "2026-11-22"),
        (pa.array([datetime.datetime(2026, 11, 22, 3, 4), None], pa.timestamp("s")), "2026-11-22 03:04:00"),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_plain_values_have_a_text_form(column, written):
    table = pa.table({"c": column})

    assert parse_template("c").fill(table).to_pylist() == [written, None]
    assert parse_template("<{c}>").fill(table).to_pylist() == [f"<{written}>", None]


def test_a_column_of_nulls_gives_nulls():
    assert parse_template("{c}!").fill(pa.table({"c": pa.nulls(2)})).to_pylist() == [None, None]


@pytest.mark.parametrize(
    "column",
    [pa.array([b"\xff"]), pa.array([["a"]]), pa.array([{"a": 1}]), pa.array([b"a"]).dictionary_encode()],
    ids=lambda column: str(column.type),
)
def test_other_types_have_none(column):
    with pytest.raises(ColumnMissing, match="'c' is of type") as caught:
        parse_template("{c}").fill(pa.table({"c": column}))

    assert str(column.type) in str(caught.value)


def test_a_missing_column_names_the_nearest():
    with pytest.raises(ColumnMissing, match="no column 'titel'") as caught:
        parse_template("{titel}").fill(pa.table({"title": ["a"], "body": ["b"]}))

    assert caught.value.hint == "did you mean 'title'?"


def test_a_column_that_is_there_twice_is_refused():
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["c", "c"])

    with pytest.raises(ColumnMissing, match="2 times"):
        parse_template("c").fill(table)


def test_chunks_need_not_agree_and_rows_may_be_none():
    table = pa.table({"a": pa.chunked_array([["1"], ["2", "3"]]), "b": pa.chunked_array([["x", "y"], ["z"]])})
    template = parse_template("{a}{b}")

    assert template.fill(table).to_pylist() == ["1x", "2y", "3z"]
    assert template.fill(table.slice(0, 0)).to_pylist() == []
    assert template.fill(table.schema.empty_table()).type == pa.large_string()
