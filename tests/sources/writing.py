"""The same rows in every format: files of 37, 0 and 5 rows, where nothing divides evenly."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FILE_ROWS = (37, 0, 5)
TEXTS = [
    "plain",
    "",
    "naïve café",
    "日本語 🙂",
    'a "quoted" word',
    "two\nlines",
    "comma, semicolon;",
    "\ttab",
]
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string())])

Write = Callable[[Path, pa.Table], None]


def make_rows(first: int, rows: int) -> pa.Table:
    ids = [f"{number:05d}" for number in range(first, first + rows)]
    texts = [TEXTS[number % len(TEXTS)] for number in range(first, first + rows)]
    return pa.table({"id": ids, "text": texts}, schema=SCHEMA)


def all_rows() -> pa.Table:
    return make_rows(0, sum(FILE_ROWS))


def write_parquet(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, row_group_size=10)


def write_jsonl(path: Path, table: pa.Table) -> None:
    lines = [json.dumps(row, ensure_ascii=int(row["id"]) % 2 == 0) for row in table.to_pylist()]
    _write_text(path, "".join(line + "\n" for line in lines))


def write_csv(path: Path, table: pa.Table) -> None:
    buffer = io.StringIO()
    delimiter = "\t" if ".tsv" in path.name else ","
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\r\n" if delimiter == "\t" else "\n")
    writer.writerow(table.column_names)
    writer.writerows(zip(*table.to_pydict().values(), strict=True))
    _write_text(path, buffer.getvalue())


def write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)


def write_stream(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=9)


def _write_text(path: Path, text: str) -> None:
    data = text.encode()
    if path.suffix != ".gz":
        path.write_bytes(data)
        return
    # Two members, cut anywhere, as concatenated log files are.
    middle = len(data) // 2
    path.write_bytes(gzip.compress(data[:middle]) + gzip.compress(data[middle:]))


KINDS: dict[str, tuple[str, Write]] = {
    "parquet": (".parquet", write_parquet),
    "jsonl": (".jsonl", write_jsonl),
    "jsonl.gz": (".jsonl.gz", write_jsonl),
    "csv": (".csv", write_csv),
    "csv.gz": (".csv.gz", write_csv),
    "tsv": (".tsv", write_csv),
    "arrow": (".arrow", write_arrow),
    "stream": (".arrow", write_stream),
}


def write_files(folder: Path, kind: str) -> Path:
    """Three files of this kind in `folder`."""
    extension, write = KINDS[kind]
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for number, rows in enumerate(FILE_ROWS):
        write(folder / f"part-{number}{extension}", make_rows(first, rows))
        first += rows
    return folder
