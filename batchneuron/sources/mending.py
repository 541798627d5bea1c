"""Text that is not UTF-8, made so: U+FFFD where bytes stand for no character.

One for each longest run of bytes that a character could have begun with, as Python's decoder has it, and the
Unicode Standard ("U+FFFD Substitution of Maximal Subparts").
"""

from __future__ import annotations

import pyarrow as pa


def mend_bytes(text: bytes) -> bytes:
    """`text` in UTF-8."""
    return text.decode("utf-8", "replace").encode()


def mend_columns(table: pa.Table) -> pa.Table:
    """`table` with its columns of text in UTF-8; text within lists and structs is left as it is."""
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            table = table.set_column(number, field, _mend_column(table.column(number), field.type))
        elif pa.types.is_string_view(field.type):
            mended = _mend_column(table.column(number), pa.large_string())
            table = table.set_column(number, field.with_type(mended.type), mended)
    return table


def _mend_column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return _decode(column.cast(pa.large_binary()), kind, "replace")[0]
    return column.cast(kind)


def decode_column(column: pa.ChunkedArray, *, mends: bool) -> tuple[pa.ChunkedArray, list[int]]:
    """A column of bytes as text, and the rows that are not UTF-8: they are nulls, unless they were mended."""
    try:
        return column.cast(pa.string()), []
    except pa.ArrowInvalid:
        return _decode(column, pa.string(), "replace" if mends else "strict")


def _decode(column: pa.ChunkedArray, kind: pa.DataType, errors: str) -> tuple[pa.ChunkedArray, list[int]]:
    texts: list[str | None] = []
    bad = []
    for row, value in enumerate(column.to_pylist()):
        try:
            texts.append(None if value is None else value.decode("utf-8", errors))
        except UnicodeDecodeError:
            texts.append(None)
            bad.append(row)
    return pa.chunked_array([pa.array(texts, kind)]), bad
