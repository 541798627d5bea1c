"""Report: what a run folder holds, read back from its parts; never from logs or memory."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchneuron.errors import ColumnMissing, DataError, OutputConflict
from batchneuron.ledger.found import Found
from batchneuron.ledger.run_names import part_name
from batchneuron.stages.columns import ERROR, ROW, TRUNCATED
from batchneuron.stores.at_once import map_at_once
from batchneuron.workers.events import StageSeconds

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


def read_speed(run: Found) -> Speed | None:
    """What the run cost, None while no part is committed."""
    runners = [progress for progress in run.progress if progress.parts]
    if not runners:
        return None
    parts = run.reported
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


def read_preview(run: Found, rows: int) -> pa.Table:
    """The first rows of the output, vectors and flags left out.

    Raises:
        DataError: nothing is committed yet.
    """
    batches, found = [], 0
    for index in sorted(run.parts):
        for batch in _iter_batches(run, index, columns=None, rows=max(1, rows)):
            batches.append(batch)
            found += batch.num_rows
            if found >= rows:
                break
        if found >= rows:
            break
    table = pa.Table.from_batches(batches) if batches else _read_empty(run)
    hidden = {ERROR, TRUNCATED}
    shown = [field.name for field in table.schema if not _is_wide(field.type) and field.name not in hidden]
    return table.select(shown).slice(0, rows)


def _read_empty(run: Found) -> pa.Table:
    """No rows, and the columns of a part that has none either."""
    for index in run.parts:
        return pq.read_schema(_open(run, index)).empty_table()
    raise DataError("no part is committed yet", run.folder.store.location)


def compare_labels(run: Found, column: str) -> Agreement:
    """How often `label` equals a known column that was carried through.

    Raises:
        ColumnMissing: the output lacks one of them.
    """
    known: Counter[str] = Counter()
    rows = equal = 0
    for counted in map_at_once(lambda index: _count_labels(run, index, column), sorted(run.parts)):
        known.update(counted[0])
        rows, equal = rows + counted[1], equal + counted[2]
    majority, majority_rows = known.most_common(1)[0] if known else ("", 0)
    return Agreement(column, rows, equal, majority, majority_rows)


def _count_labels(run: Found, index: int, column: str) -> tuple[Counter[str], int, int]:
    """Of one part: the known labels, the rows that have both, and those where they are equal."""
    known: Counter[str] = Counter()
    rows = equal = 0
    with pq.ParquetFile(_open(run, index)) as file:
        names = file.schema_arrow.names
        for name in ("label", column):
            if name not in names:
                where = part_name(run.record, index)
                raise ColumnMissing(f"no column '{name}' in the output", where, f"there are {names}")
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=["label", column]):
            truth = batch[column].cast(pa.string())
            known.update(truth.drop_null().to_pylist())
            matches = pc.equal(batch["label"], truth)
            rows += batch.num_rows - matches.null_count
            equal += pc.sum(matches).as_py() or 0
    return known, rows, equal


def iter_rejected(run: Found) -> Iterator[Rejected]:
    """Every rejected row, in row order; parts that have none by the manifest are not opened."""
    clean = _list_clean(run)
    indices = [index for index in sorted(run.parts) if index not in clean]
    for found in map_at_once(lambda index: _read_rejected(run, index), indices):
        yield from found


def _list_clean(run: Found) -> set[int]:
    """Shards whose part has no rejected row, as far as a manifest tells."""
    with contextlib.suppress(OutputConflict):  # damaged: `verify` says so
        listed = run.manifest.parts if run.manifest else ()
        return {index for index, part in enumerate(listed) if not part.rejected}
    return set()


def _read_rejected(run: Found, index: int) -> list[Rejected]:
    part, rejected = part_name(run.record, index), []
    for batch in _iter_batches(run, index, columns=[ROW, ERROR], rows=_BATCH_ROWS):
        for row in batch.filter(batch[ERROR].is_valid()).to_pylist():
            rejected.append(Rejected(row[ROW], row[ERROR]["code"], row[ERROR]["message"], part))
    return rejected


def _iter_batches(run: Found, index: int, columns: list[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of a part, in row order."""
    with pq.ParquetFile(_open(run, index)) as file:
        yield from file.iter_batches(batch_size=rows, columns=columns)


def _open(run: Found, index: int) -> Any:
    """What pyarrow opens to read a part."""
    return run.folder.store.open_table(part_name(run.record, index))


def _is_wide(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) or (pa.types.is_list(kind) and _is_wide(kind.value_type))
