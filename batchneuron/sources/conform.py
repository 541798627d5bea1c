"""One schema for all files, and rows cast to it.

A value that does not fit its column rejects its row and no other. Knows nothing of how rows are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from batchneuron.errors import SourceUnreadable
from batchneuron.rejection import Rejection
from batchneuron.sources.location import first_line
from batchneuron.sources.scan import Scan
from batchneuron.sources.source import FileId, ShardRows


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` without metadata, dictionaries and views; columns nullable, as rejected rows need."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def plain_type(kind: pa.DataType) -> pa.DataType:
    """`kind` with dictionary-encoded values, at any depth, as the values they stand for, and no views.

    Views are how polars writes text to Arrow files; Arrow itself can take no rows of them.
    """
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct(
            [kind.field(i).with_type(plain_type(kind.field(i).type)) for i in range(kind.num_fields)]
        )
    for is_list, make in _LISTS.items():
        if is_list(kind):
            return make(kind.value_field.with_type(plain_type(kind.value_type)))
    return kind


_LISTS = {
    pa.types.is_list: pa.list_,
    pa.types.is_large_list: pa.large_list,
    pa.types.is_list_view: pa.list_,
    pa.types.is_large_list_view: pa.large_list,
}


def unify(schemas: Iterable[tuple[FileId, pa.Schema]]) -> pa.Schema:
    """The union of the files' columns; a column's types are widened to one that holds them all.

    Raises:
        SourceUnreadable: two types have no common one, or a file has two columns of one name.
    """
    first_of: dict[pa.Schema, FileId] = {}
    for file, schema in schemas:
        plain = plain_schema(schema)
        if plain not in first_of:
            _refuse_duplicates(file, plain)
            first_of[plain] = file
    fields: dict[str, pa.Field] = {}
    origins: dict[str, FileId] = {}
    for schema, file in first_of.items():
        for field in schema:
            if field.name in fields:
                field = _widen(fields[field.name], field, origins[field.name], file)
            fields[field.name] = field
            origins.setdefault(field.name, file)
    return pa.schema(list(fields.values()))


def unify_scans(scans: Sequence[tuple[FileId, Scan]]) -> pa.Schema:
    """The common schema of files that name their columns; see `unify`."""
    return unify((file, scan.schema) for file, scan in scans if scan.schema is not None)


def _refuse_duplicates(file: FileId, schema: pa.Schema) -> None:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise SourceUnreadable(f"has more than one column named {', '.join(map(repr, twice))}", file.uri)


def _widen(known: pa.Field, other: pa.Field, known_file: FileId, other_file: FileId) -> pa.Field:
    try:
        return pa.unify_schemas([pa.schema([known]), pa.schema([other])], promote_options="permissive").field(
            0
        )
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise SourceUnreadable(
            f"column {known.name!r} is {other.type} here and {known.type} in {known_file.uri}",
            other_file.uri,
            "convert one of them, or read them in two runs",
        ) from error


def conform(rows: ShardRows, schema: pa.Schema, uri: str, first_row: int) -> ShardRows:
    """`rows` with exactly the columns and types of `schema`.

    A column that is not there becomes nulls. Rows with a value that cannot be cast, or that is not
    valid (text that is not UTF-8, say), are rejected and become nulls.
    """
    table, reasons = rows.table, {r.row: r for r in rows.rejections}
    present = set(table.column_names)
    columns = []
    for field in schema:
        if field.name not in present:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
            continue
        chunks, bad = _cast(table.column(field.name), field.type, uri, field.name)
        columns.append(pa.chunked_array(chunks, type=field.type))
        for row, reason in bad.items():
            message = f"{uri}: record {first_row + row + 1}: column {field.name!r}: {reason}"
            reasons.setdefault(row, Rejection(row, "bad_record", message))
    whole = pa.Table.from_arrays(columns, schema=schema)
    rejections = tuple(reasons[row] for row in sorted(reasons))
    return ShardRows(null_rows(whole, reasons), rejections, rows.lines)


def change_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """`column` cast to `kind`, which is plain."""
    if not _defies_cast(column.type):
        return column.cast(kind)
    return pa.chunked_array([pa.array(chunk.to_pylist(), kind) for chunk in column.chunks], kind)


def _defies_cast(kind: pa.DataType) -> bool:
    """Whether Arrow has no cast for it, or a wrong one: 26 gives invalid lists for views of lists."""
    if pa.types.is_dictionary(kind):
        return bool(pa.types.is_string_view(kind.value_type) or pa.types.is_binary_view(kind.value_type))
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return True
    return any(_defies_cast(kind.field(number).type) for number in range(kind.num_fields))


def null_rows(table: pa.Table, rows: Mapping[int, object]) -> pa.Table:
    """`table` with nulls in all columns of these rows."""
    if not rows:
        return table
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[list(rows)] = True
    return table.take(pa.array(np.arange(table.num_rows), mask=mask))


def _cast(
    column: pa.ChunkedArray, kind: pa.DataType, uri: str, name: str
) -> tuple[list[pa.Array], dict[int, str]]:
    """Chunks of `kind`, and the rows whose value has no place in it, with the reason.

    Halving finds the bad rows: they are few, and casting is fast only in bulk.
    """
    try:
        column.validate(full=True)
        return (column if column.type == kind else change_type(column, kind)).chunks, {}
    except pa.ArrowNotImplementedError as error:
        raise SourceUnreadable(f"column {name!r} is {column.type}, which is not {kind}", uri) from error
    except pa.ArrowInvalid as error:
        if len(column) <= 1:
            return [pa.nulls(len(column), kind)], {row: first_line(error) for row in range(len(column))}
    middle = len(column) // 2
    left, bad = _cast(column.slice(0, middle), kind, uri, name)
    right, bad_right = _cast(column.slice(middle), kind, uri, name)
    return left + right, bad | {row + middle: reason for row, reason in bad_right.items()}
