"""Report: what a run folder holds, read back from its parts; never from logs or memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchneuron.errors import ColumnMissing, DataError
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import part_name
from batchneuron.ledger.run_record import RunRecord
from batchneuron.stages.columns import ERROR, ROW, TRUNCATED
from batchneuron.stores import open_store
from batchneuron.workers.events import PartDone, StageSeconds

_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Speed:
    """What the committed parts cost, as their runners reported it."""

    rows_per_s: float
    """Over the last runner that committed anything."""
    padding_share: float
    """Slots that held no token, 0 to 1."""
    truncated: int
    rows: int
    """Rows of the parts that the seconds are of."""
    seconds: StageSeconds
    """Of all workers; the stages overlap."""
    throttled: int = 0
    """Answers of the store that asked to slow down."""
    restarts: int = 0
    """Workers that died in the middle of their work."""
    isolated: int = 0
    """Rows that were found to kill them."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Predicted labels against a known column."""

    column: str
    rows: int
    equal: int
    majority: str
    """The commonest known label."""
    majority_rows: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """One rejected row of the output."""

    row: int
    code: str
    message: str
    part: str


def read_speed(path: str) -> Speed | None:
    """What the run cost, None while no part is committed."""
    folder, record = open_folder(path)
    runners = [progress for progress in folder.read_progress(record) if progress.parts]
    if not runners:
        return None
    parts = list_reported(folder, record)
    slots, tokens = sum(part.slots for part in parts), sum(part.tokens for part in parts)
    largest = max(runners, key=lambda progress: sum(part.rows for part in progress.parts))
    return Speed(
        rows_per_s=sum(part.rows for part in largest.parts) / max(largest.elapsed_s, 1e-9),
        padding_share=1 - tokens / slots if slots else 0.0,
        truncated=sum(part.truncated for part in parts),
        rows=sum(part.rows for part in parts),
        seconds=sum((part.seconds for part in parts), StageSeconds()),
        throttled=sum(part.throttled for part in parts),
        restarts=sum(progress.restarts for progress in runners),
        isolated=sum(progress.isolated for progress in runners),
    )


def read_preview(path: str, rows: int) -> pa.Table:
    """The first rows of the output, vectors and flags left out.

    Raises:
        DataError: nothing is committed yet.
    """
    batches, found = [], 0
    for _, batch in _iter_batches(path, columns=None, rows=max(1, rows)):
        batches.append(batch)
        found += batch.num_rows
        if found >= rows:
            break
    table = pa.Table.from_batches(batches) if batches else _read_empty(path)
    hidden = {ERROR, TRUNCATED}
    shown = [field.name for field in table.schema if not _is_wide(field.type) and field.name not in hidden]
    return table.select(shown).slice(0, rows)


def _read_empty(path: str) -> pa.Table:
    """No rows, and the columns of a part that has none either."""
    folder, record = open_folder(path)
    for index in folder.list_committed(record):
        return pq.read_schema(folder.store.open_table(part_name(record, index))).empty_table()
    raise DataError("no part is committed yet", path)


def compare_labels(path: str, column: str) -> Agreement:
    """How often `label` equals a known column that was carried through.

    Raises:
        ColumnMissing: the output lacks one of them.
    """
    known: Counter[str] = Counter()
    rows = equal = 0
    for part, batch in _iter_batches(path, columns=None, rows=_BATCH_ROWS):
        for name in ("label", column):
            if name not in batch.schema.names:
                raise ColumnMissing(
                    f"no column '{name}' in the output", part, f"there are {batch.schema.names}"
                )
        truth = batch[column].cast(pa.string())
        known.update(truth.drop_null().to_pylist())
        matches = pc.equal(batch["label"], truth)
        rows += batch.num_rows - matches.null_count
        equal += pc.sum(matches).as_py() or 0
    majority, majority_rows = known.most_common(1)[0] if known else ("", 0)
    return Agreement(column, rows, equal, majority, majority_rows)


def iter_rejected(path: str) -> Iterator[Rejected]:
    """Every rejected row, in row order."""
    for part, batch in _iter_batches(path, columns=[ROW, ERROR], rows=_BATCH_ROWS):
        if batch[ERROR].null_count == batch.num_rows:
            continue
        for record in batch.filter(batch[ERROR].is_valid()).to_pylist():
            yield Rejected(record[ROW], record[ERROR]["code"], record[ERROR]["message"], part)


def open_folder(path: str) -> tuple[RunFolder, RunRecord]:
    """The run folder at a path, and what it is for.

    Raises:
        DataError: there is no run in it.
    """
    folder = RunFolder(open_store(path))
    record = folder.read_run()
    if record is None:
        raise DataError("no run in this folder", folder.store.location, "give the output.path of a job")
    return folder, record


def _iter_batches(path: str, columns: list[str] | None, rows: int) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Batches of the committed parts, in row order."""
    folder, record = open_folder(path)
    for index in sorted(folder.list_committed(record)):
        name = part_name(record, index)
        with pq.ParquetFile(folder.store.open_table(name)) as file:
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                yield name, batch


def list_reported(folder: RunFolder, record: RunRecord) -> tuple[PartDone, ...]:
    """Each part that a runner has reported as its own, once."""
    told = {
        part.shard: part
        for progress in folder.read_progress(record)
        for part in progress.parts
        if part.created
    }
    return tuple(told.values())


def _is_wide(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) or (pa.types.is_list(kind) and _is_wide(kind.value_type))
