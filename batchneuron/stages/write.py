"""Write: a table to one Parquet file on local disk, closed, flushed and read back at its footer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron.disk import explain_disk_error
from batchneuron.errors import OutputUnfit, WorkerFailed
from batchneuron.planning.plan import MAX_PART_BYTES

_ROW_GROUP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A finished file that is not published yet."""

    path: Path
    size_bytes: int
    sha256: str
    metadata: Mapping[str, str]
    """What its footer says."""


def write_part(table: pa.Table, path: Path, metadata: Mapping[str, str], compression: str) -> WrittenPart:
    """The table as a Parquet file that any reader opens.

    Vectors are stored without a dictionary and with BYTE_STREAM_SPLIT: a dictionary of floats only
    costs, and split bytes compress best (26.0 against 28.4 of 30.7 MB for 384 floats).

    Raises:
        OutputUnwritable: the disk is full or forbidden.
        OutputUnfit: it is larger than a part may be.
        WorkerFailed: the file does not hold what was written; the shard can be redone.
    """
    leaves = [leaf for field in table.schema for leaf in _iter_leaves(field.name, field.type)]
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **metadata})
    rows_per_group = max(1, _ROW_GROUP_BYTES * max(1, table.num_rows) // max(1, table.nbytes))
    try:
        pq.write_table(
            table,
            path,
            row_group_size=rows_per_group,
            compression=compression,
            use_dictionary=[leaf.path for leaf in leaves if not leaf.is_vector],
            column_encoding={leaf.path: "BYTE_STREAM_SPLIT" for leaf in leaves if leaf.is_split},
            write_page_index=True,
            write_page_checksum=True,
        )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        part = WrittenPart(path, _check_footer(path, table), digest, metadata)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise explain_disk_error(error, path, table.nbytes) from error
    _require_small(part, table.num_rows)
    return part


def _require_small(part: WrittenPart, rows: int) -> None:
    """What a worker holds three times, a scratch disk twice, and S3 takes at once has a bound.

    Raises:
        OutputUnfit: it is larger.
    """
    if part.size_bytes > MAX_PART_BYTES:
        part.path.unlink()
        fitting_rows = max(1, rows * MAX_PART_BYTES // part.size_bytes)
        raise OutputUnfit(
            f"a part of {rows} rows takes {part.size_bytes >> 20} MiB, and the most is "
            f"{MAX_PART_BYTES >> 20} MiB",
            str(part.path.parent),
            f"set output.shard_rows to {fitting_rows} or fewer, and begin anew with `run --overwrite`",
        )


def _check_footer(path: Path, table: pa.Table) -> int:
    """Size in bytes, once the footer says what was written."""
    rows = pq.read_metadata(path).num_rows
    if rows != table.num_rows:
        raise WorkerFailed(f"wrote {table.num_rows} rows, the file holds {rows}", str(path))
    return path.stat().st_size


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A column as Parquet stores it."""

    path: str
    """`embedding.list.element`"""
    is_vector: bool
    is_split: bool
    """Whether its bytes are split into streams; of halves, DuckDB reads no such file."""


def _iter_leaves(path: str, kind: pa.DataType, *, in_list: bool = False) -> Iterator[_Leaf]:
    """The leaves of a column; numbers directly inside a list are a vector."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _iter_leaves(f"{path}.list.element", kind.value_type, in_list=True)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _iter_leaves(f"{path}.{field.name}", field.type)
    else:
        is_number = pa.types.is_float32(kind) or pa.types.is_float64(kind) or pa.types.is_float16(kind)
        yield _Leaf(path, in_list and is_number, in_list and is_number and not pa.types.is_float16(kind))
