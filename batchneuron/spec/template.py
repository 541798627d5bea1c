"""A task's input made from the columns of a row: `text`, or `{title} {body}`.

Only names stand in braces: no attributes, no indices, no formats, so that a spec cannot reach into
an object. Knows Arrow tables; does not know which inputs a task has.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from batchneuron.errors import ColumnMissing

_TEXT = pa.large_string()
_TOKEN = re.compile(r"(?P<escape>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])|(?P<text>[^{}]+)")
_TEXT_FORMS = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_null,
)


@dataclass(frozen=True, slots=True)
class Column:
    """The place of a column's value in a template."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: text and columns in turn."""

    parts: tuple[str | Column, ...]
    is_plain: bool = False
    """Whether it is one column's name without braces, to be taken as it is by tasks that read no text."""

    def __str__(self) -> str:
        """The template as it is written; parses to an equal one."""
        if self.is_plain:
            return self.columns[0]
        escaped = (
            f"{{{part.name}}}" if isinstance(part, Column) else part.replace("{", "{{").replace("}", "}}")
            for part in self.parts
        )
        return "".join(escaped)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it reads, each once, in the order of their first use."""
        return tuple(dict.fromkeys(part.name for part in self.parts if isinstance(part, Column)))

    def fill(self, table: pa.Table) -> pa.ChunkedArray:
        """One large_string per row of the table; null where any of the row's columns is null.

        Numbers, booleans, dates and times are written as Arrow casts them to text.

        Raises:
            ColumnMissing: a column is not in the table, is there twice, or has no text form.
        """
        texts = {name: _read_text(table, name) for name in self.columns}
        if len(self.parts) == 1:
            return texts[self.columns[0]]
        pieces = [
            texts[part.name] if isinstance(part, Column) else pa.scalar(part, _TEXT) for part in self.parts
        ]
        return pc.binary_join_element_wise(*pieces, pa.scalar("", _TEXT), null_handling="emit_null")


def parse_template(text: str) -> Template:
    """The parsed template; a text without braces is the name of a column.

    Raises:
        ValueError: with a message in plain words that names the place.
    """
    if not text.strip():
        raise ValueError("expected a column, or a template such as '{title} {body}'; got an empty text")
    if "{" not in text and "}" not in text:
        return Template((Column(text),), is_plain=True)
    parts: list[str | Column] = []
    for token in _TOKEN.finditer(text):
        part = _parse_token(token)
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    template = Template(tuple(parts))
    if not template.columns:
        raise ValueError("names no column: a column stands in single braces, as in '{title}'")
    return template


def _parse_token(token: re.Match[str]) -> str | Column:
    if token["stray"]:
        raise ValueError(
            f"has a '{token['stray']}' without its pair at character {token.start() + 1}; "
            f"write '{token['stray'] * 2}' for the character itself"
        )
    if token["escape"]:
        return token["escape"][0]
    if token["text"]:
        return token["text"]
    name = token["name"]
    if not name.strip():
        raise ValueError(f"names no column in the braces at character {token.start() + 1}")
    if name != name.strip():
        raise ValueError(f"has spaces around the column's name in '{{{name}}}'")
    # A dot would be an attribute to str.format; such a column is still to be had by its plain name.
    for sign, word in ((".", "attributes"), ("[", "indices"), ("!", "conversions"), (":", "formats")):
        if sign in name:
            raise ValueError(f"has '{{{name}}}', but only a column's name may stand in braces, no {word}")
    return Column(name)


def _read_text(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The column as large_string."""
    found = table.schema.get_all_field_indices(name)
    if len(found) != 1:
        near = difflib.get_close_matches(name, table.column_names, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the columns are: {', '.join(table.column_names)}"
        what = f"the column '{name}' is there {len(found)} times" if found else f"there is no column '{name}'"
        raise ColumnMissing(what, "input.columns", "rename one of them" if found else hint)
    column = table.column(found[0])
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not any(is_kind(kind) for is_kind in _TEXT_FORMS):
        raise ColumnMissing(
            f"the column '{name}' is of type {column.type}, which has no text form",
            "input.columns",
            "name a column of text, numbers, booleans, dates or times",
        )
    return column.cast(_TEXT)
