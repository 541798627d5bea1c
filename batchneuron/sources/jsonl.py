"""JSON Lines files: one object a line, types told from the first lines.

Arrow parses a chunk of lines at once. Where it refuses, Python parses the same lines one by one, with
the same results, so that what a row becomes never depends on its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import json as arrow_json

from batchneuron.errors import SourceUnreadable
from batchneuron.rejection import Rejection
from batchneuron.sources.grammar import JsonLines
from batchneuron.sources.json_values import JsonObject, decode_object, fit_value, infer_type, measure_depth
from batchneuron.sources.lines import Records, RecordScanner, is_utf8, scan_blocks
from batchneuron.sources.location import map_files
from batchneuron.sources.mending import mend_bytes
from batchneuron.sources.scan import Scan
from batchneuron.sources.source import FileId, ShardRows
from batchneuron.sources.text import TextCursor

_SAMPLED_FILES = 32
_SAMPLED_RECORDS = 1000
_SAMPLED_CHUNKS = 4  # where records are so long that there are fewer
_ARRAY_HINT = "one object per line is wanted: jq -c '.[]' in.json > out.jsonl"
_OBJECT_HINT = "one object per line is wanted: jq -c . in.json > out.jsonl"
_SURE_DEPTH = 500  # Python gives up near 1,000, less the calls it is in
# Arrow takes these for numbers, JSON and Python do not.
_ODD_NUMBER = re.compile(rb"[:,\[]\s*-?(?:Inf(?!inity)|(?<=-)NaN)")


class JsonLinesFormat:
    """JSON Lines, as a `Format`."""

    def scan(self, file: FileId) -> Scan:
        """Blocks, from a scan of the whole file."""
        scanner = RecordScanner(file, JsonLines())
        try:
            _refuse_document(file, scanner.peek_first() or b"")
            return Scan(scan_blocks(scanner), None)
        finally:
            scanner.close()

    def unify(self, scans: Sequence[tuple[FileId, Scan]]) -> pa.Schema:
        """Columns and types told from the first records of files in all places."""
        samples = map_files(_sample, _spread([file for file, _ in scans], _SAMPLED_FILES))
        return _infer_schema([record for sample in samples for record in sample])

    def open_cursor(self, file: FileId, schema: pa.Schema, *, mends: bool = False) -> TextCursor:
        """A cursor over the columns of `schema`."""
        return TextCursor(file.uri, RecordScanner(file, JsonLines()), JsonParser(file.uri, schema, mends))


def _spread(files: Sequence[FileId], most: int) -> list[FileId]:
    """At most so many files, evenly spread: what drifts does so from one file to the next."""
    count = min(most, len(files))
    return [files[number * len(files) // count] for number in range(count)]


def _sample(file: FileId) -> list[JsonObject]:
    """The first records of a file, those that are no JSON left out: whoever reads them rejects them."""
    objects = []
    for text in _iter_head(file):
        with suppress(ValueError):
            objects.append(decode_object(mend_bytes(text)))
    return objects


def _iter_head(file: FileId) -> Iterator[bytes]:
    scanner = RecordScanner(file, JsonLines())
    left = _SAMPLED_RECORDS
    try:
        for _ in range(_SAMPLED_CHUNKS):
            records = scanner.next_records()
            if records is None or left <= 0:
                return
            head = records.part(0, left)
            yield from (head.text(index) for index in np.flatnonzero(~head.too_long).tolist())
            left -= len(records)
    finally:
        scanner.close()


def _refuse_document(file: FileId, first: bytes) -> None:
    """Refuse a file that is JSON as a whole: an array, or one object over many lines."""
    first = first.strip()
    if first.startswith(b"["):
        raise SourceUnreadable("is a JSON array, not JSON Lines", file.uri, _ARRAY_HINT)
    if first == b"{":
        raise SourceUnreadable("is one JSON document over many lines, not JSON Lines", file.uri, _OBJECT_HINT)


def _infer_schema(records: list[JsonObject]) -> pa.Schema:
    names = dict.fromkeys(name for record in records for name in record)
    return pa.schema([(name, infer_type(record.get(name) for record in records)) for name in names])


@dataclass(frozen=True, slots=True)
class JsonParser:
    """Makes rows of JSON Lines; implements `Parser`."""

    uri: str
    schema: pa.Schema
    mends: bool
    """Whether bytes that are not UTF-8 are replaced; otherwise they reject their row."""

    def parse(self, records: Records, row: int) -> ShardRows:
        """One row for each record, with the columns of the schema."""
        table = _parse_bulk(records, self.schema)
        return self._parse_each(records, row) if table is None else ShardRows(table)

    def refuse(self, message: str) -> ShardRows:
        """One row of nulls, rejected with this message."""
        table = pa.Table.from_pylist([{}], schema=self.schema)
        return ShardRows(table, (Rejection(0, "bad_record", message),))

    def _parse_each(self, records: Records, row: int) -> ShardRows:
        rows: list[dict[str, Any]] = []
        rejections: list[Rejection] = []
        for index, place in enumerate(records.name_places(row)):
            try:
                text = records.text(index)
                value = decode_object(mend_bytes(text) if self.mends else text)
                rows.append(_fit_record(value, self.schema))
            except ValueError as error:
                rows.append({})
                rejections.append(Rejection(index, "bad_record", f"{self.uri}: {place}: {error}"))
        return ShardRows(pa.Table.from_pylist(rows, schema=self.schema), tuple(rejections))


def _fit_record(value: JsonObject, schema: pa.Schema) -> dict[str, Any]:
    fitted = {}
    for field in schema:
        if field.name in value.repeated:
            raise ValueError(f"column {field.name!r} is given twice")
        try:
            fitted[field.name] = fit_value(value.get(field.name), field.type)
        except ValueError as error:
            raise ValueError(f"column {field.name!r}: {error}") from error
    return fitted


def _parse_bulk(records: Records, schema: pa.Schema) -> pa.Table | None:
    """The rows as Arrow's parser reads them; None where it refuses, or cannot be trusted to count."""
    data = records.span()
    # Arrow does not check the columns that it leaves out.
    if not (is_utf8(data) and _are_objects(records)) or _are_deep(records):
        return None
    if (b"Inf" in data or b"-NaN" in data) and _ODD_NUMBER.search(data):
        return None
    try:
        table = arrow_json.read_json(
            pa.BufferReader(data),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    return table.select(schema.names) if table.num_rows == len(records) else None


def _are_deep(records: Records) -> bool:
    """Whether any record is nested more deeply than Python is sure to follow: Arrow follows to any depth."""
    if (records.stops - records.starts).max() <= _SURE_DEPTH:
        return False
    array = np.frombuffer(records.data, dtype=np.uint8)
    opens = np.flatnonzero((array == ord("[")) | (array == ord("{")))
    counts = np.searchsorted(opens, records.stops) - np.searchsorted(opens, records.starts)
    suspects = np.flatnonzero(counts > _SURE_DEPTH).tolist()
    return any(measure_depth(records.text(index)) > _SURE_DEPTH for index in suspects)


def _are_objects(records: Records) -> bool:
    """Whether every line begins and ends like an object.

    With as many rows as lines it then holds exactly one. It also keeps Arrow 26 from a line that
    says `null`, on which it crashes.
    """
    array = np.frombuffer(records.data, dtype=np.uint8)
    odd = (array[records.starts] != ord("{")) | (array[records.stops - 1] != ord("}"))
    for index in np.flatnonzero(odd).tolist():
        text = records.text(index).strip(b" \t\r")
        if not (text.startswith(b"{") and text.endswith(b"}")):
            return False
    return True
