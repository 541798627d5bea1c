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
from batchneuron.sources.json_values import decode_object, fit_value, infer_type
from batchneuron.sources.lines import JsonLines, Records, RecordScanner, is_utf8, scan_blocks
from batchneuron.sources.location import map_files
from batchneuron.sources.source import Block, FileId, FileInventory, Inventory, ShardRows
from batchneuron.sources.text import TextCursor

_SAMPLED_FILES = 32
_SAMPLED_RECORDS = 1000
_SAMPLED_CHUNKS = 4  # where records are so long that there are fewer
_ARRAY_HINT = "one object per line is wanted: jq -c '.[]' in.json > out.jsonl"
_OBJECT_HINT = "one object per line is wanted: jq -c . in.json > out.jsonl"
# Arrow takes these for numbers, JSON and Python do not.
_ODD_NUMBER = re.compile(rb"[:,\[]\s*-?(?:Inf(?!inity)|(?<=-)NaN)")


class JsonLinesFormat:
    """JSON Lines, as a `Format`."""

    def inventory(self, files: Sequence[FileId]) -> Inventory:
        """Blocks from a scan of all files; types from the first records of files in all places."""
        blocks = map_files(_scan, files)
        samples = map_files(_sample, _spread(files, _SAMPLED_FILES))
        listed = tuple(FileInventory(*pair) for pair in zip(files, blocks, strict=True))
        return Inventory(listed, _infer_schema([record for sample in samples for record in sample]))

    def open_cursor(self, file: FileId, schema: pa.Schema) -> TextCursor:
        """A cursor over the columns of `schema`."""
        return TextCursor(RecordScanner(file, JsonLines()), JsonParser(file.uri, schema))


def _spread(files: Sequence[FileId], most: int) -> list[FileId]:
    """At most so many files, evenly spread: what drifts does so from one file to the next."""
    count = min(most, len(files))
    return [files[number * len(files) // count] for number in range(count)]


def _scan(file: FileId) -> tuple[Block, ...]:
    scanner = RecordScanner(file, JsonLines())
    try:
        return scan_blocks(scanner)
    finally:
        scanner.close()


def _sample(file: FileId) -> list[dict[str, Any]]:
    """The first records of a file, those that are no JSON left out: whoever reads them rejects them."""
    objects = []
    for number, text in enumerate(_iter_head(file)):
        if number == 0:
            _refuse_document(file, text)
        with suppress(ValueError):
            objects.append(decode_object(text))
    return objects


def _iter_head(file: FileId) -> Iterator[bytes]:
    scanner = RecordScanner(file, JsonLines())
    left = _SAMPLED_RECORDS
    try:
        for _ in range(_SAMPLED_CHUNKS):
            records = scanner.next_records()
            if records is None or left <= 0:
                return
            yield from (records.text(index) for index in range(min(left, len(records))))
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


def _infer_schema(records: list[dict[str, Any]]) -> pa.Schema:
    names = dict.fromkeys(name for record in records for name in record)
    return pa.schema([(name, infer_type(record.get(name) for record in records)) for name in names])


@dataclass(frozen=True, slots=True)
class JsonParser:
    """Makes rows of JSON Lines; implements `Parser`."""

    uri: str
    schema: pa.Schema

    def parse(self, records: Records, row: int) -> ShardRows:
        """One row for each record, with the columns of the schema."""
        table = _parse_bulk(records, self.schema)
        return self._parse_each(records, row) if table is None else ShardRows(table)

    def _parse_each(self, records: Records, row: int) -> ShardRows:
        rows: list[dict[str, Any]] = []
        rejections: list[Rejection] = []
        for index in range(len(records)):
            try:
                value = decode_object(records.text(index))
                rows.append(_fit_record(value, self.schema))
            except ValueError as error:
                rows.append({})
                message = f"{self.uri}: record {row + index + 1}: {error}"
                rejections.append(Rejection(index, "bad_record", message))
        return ShardRows(pa.Table.from_pylist(rows, schema=self.schema), tuple(rejections))


def _fit_record(value: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    fitted = {}
    for field in schema:
        try:
            fitted[field.name] = fit_value(value.get(field.name), field.type)
        except ValueError as error:
            raise ValueError(f"column {field.name!r}: {error}") from error
    return fitted


def _parse_bulk(records: Records, schema: pa.Schema) -> pa.Table | None:
    """The rows as Arrow's parser reads them; None where it refuses, or cannot be trusted to count."""
    data = records.span()
    # Arrow does not check the columns that it leaves out.
    if not (is_utf8(data) and _are_objects(records)):
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
