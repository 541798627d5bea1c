"""Retry: the rejected rows of a run as a job of their own. What `batchneuron errors --retry-spec` does.

Their columns are read from the input once more, because a part holds only those that were carried.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron.errors import OutputConflict, OutputUnwritable
from batchneuron.ledger.found import Found, find_run
from batchneuron.ledger.report import Rejected, iter_rejected
from batchneuron.planning.plan import Shard
from batchneuron.sources import open_source
from batchneuron.spec.format import format_spec
from batchneuron.spec.parse import load_spec
from batchneuron.spec.sections import InputSpec, JobSpec
from batchneuron.stages.columns import bind_columns
from batchneuron.tasks import INPUTS, OPTIONS, find_kind

SOURCE_ROW, SOURCE_ERROR = "source_row", "source_error"
_COMMENT = """\
The rejected rows of {output}.
Mend them in {rows}: {source_row} is the row of the
run's input, {source_error} says why it was rejected. Then: batchneuron run {spec}"""


@dataclass(frozen=True, slots=True)
class Retry:
    """A job of rejected rows."""

    spec: Path
    data: Path
    rows: int
    unread: int
    """Rows of which the input gives nothing but nulls, because it cannot be parsed there."""


def write_retry(path: str, spec_path: Path, data_path: Path | None = None) -> Retry | None:
    """Write a spec, and a Parquet file with the rows it is for; None: no row was rejected.

    Args:
        path: the run folder.
        spec_path: the YAML file to write.
        data_path: the Parquet file; None: beside the spec, with its name.

    Raises:
        OutputConflict: one of the files is there already.
        SourceChanged: the input is not what it was.
    """
    data_path = (data_path or spec_path.with_suffix(".parquet")).absolute()
    for file in (spec_path, data_path):
        if file.exists():
            raise OutputConflict("it is there already", str(file), "choose another name, or remove it")
    found = find_run(path)
    spec = JobSpec.model_validate(dict(found.record.spec))
    tables = list(_iter_tables(found, spec))
    if not tables:
        return None
    table = pa.concat_tables(tables)
    try:
        for folder in {spec_path.absolute().parent, data_path.parent}:
            folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, data_path)
        retry = _point_at(spec, path, data_path)
        comment = _COMMENT.format(
            output=path, rows=data_path, source_row=SOURCE_ROW, source_error=SOURCE_ERROR, spec=spec_path
        )
        spec_path.write_text(format_spec(retry, comment))
    except OSError as error:
        where = error.filename or str(spec_path)
        raise OutputUnwritable(
            f"cannot be written: {error.strerror}", where, "choose another place"
        ) from error
    load_spec(spec_path, (), OPTIONS, INPUTS)
    columns = [name for name in table.column_names if name not in (SOURCE_ROW, SOURCE_ERROR)]
    unread = sum(all(value is None for value in row.values()) for row in table.select(columns).to_pylist())
    return Retry(spec_path, data_path, table.num_rows, unread)


def _iter_tables(found: Found, spec: JobSpec) -> Iterator[pa.Table]:
    """The rejected rows of each shard that has some, as they stand in the input."""
    by_row = {rejected.row: rejected for rejected in iter_rejected(found)}
    if not by_row:
        return
    source = open_source(spec.input)
    schema = source.inventory().schema
    columns = bind_columns(spec.input, find_kind(spec.task), schema, pa.schema([]))
    reader = source.open_reader(columns.needed(schema))
    ordered = sorted(by_row)
    for shard in found.plan.shards:
        rows = ordered[bisect_left(ordered, shard.row_lo) : bisect_left(ordered, shard.row_hi)]
        if rows:
            yield _pick(reader.read(shard.slices).table, shard, rows, by_row)
    reader.close()


def _pick(table: pa.Table, shard: Shard, rows: list[int], by_row: Mapping[int, Rejected]) -> pa.Table:
    """Some rows, told where they come from; in a retry of a retry, where they came from at first."""
    picked = table.take(pa.array([row - shard.row_lo for row in rows]))
    if SOURCE_ROW not in picked.column_names:
        picked = picked.append_column(SOURCE_ROW, pa.array(rows, pa.int64()))
    reasons = pa.array([f"{by_row[row].code}: {by_row[row].message}" for row in rows], pa.string())
    if SOURCE_ERROR in picked.column_names:
        picked = picked.drop_columns([SOURCE_ERROR])
    return picked.append_column(SOURCE_ERROR, reasons)


def _point_at(spec: JobSpec, path: str, data_path: Path) -> JobSpec:
    """The same job over the file, its output beside the run's."""
    keep = spec.input.keep
    if isinstance(keep, dict):
        keep = {**keep, SOURCE_ROW: SOURCE_ROW}
    elif keep is not None:
        keep = [*keep, *([SOURCE_ROW] if SOURCE_ROW not in keep else [])]
    given = InputSpec(path=str(data_path), columns=spec.input.columns, keep=keep)
    output = spec.output.model_copy(update={"path": f"{path.rstrip('/')}-retry"})
    name = f"{spec.name}-retry" if spec.name else None
    return spec.model_copy(update={"name": name, "input": given, "output": output})
