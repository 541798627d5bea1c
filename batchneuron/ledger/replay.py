"""Replay: rows of a finished run predicted once more, on this machine, and held against what is stored.

Rows are drawn by whole shards: a shard's items are batched together, and only the same batches must give
the same bits.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron.errors import DataError, OutputConflict
from batchneuron.ledger.found import find_run
from batchneuron.ledger.run_names import part_name
from batchneuron.ledger.run_record import RunRecord
from batchneuron.open_run import adopt_choices
from batchneuron.planning.fingerprint import name_differences
from batchneuron.planning.plan import Plan, Shard
from batchneuron.planning.prepare import Prepared, make_order, prepare
from batchneuron.programs.agreement import find_excesses, find_tolerance
from batchneuron.programs.compare import compare_tables
from batchneuron.programs.compile import Sharing, compile_missing
from batchneuron.spec.sections import JobSpec
from batchneuron.stages.columns import ERROR
from batchneuron.stages.decode import decode
from batchneuron.stages.runner import open_runner
from batchneuron.workers.aside import call_aside
from batchneuron.workers.case import recall_case
from batchneuron.workers.work_order import WorkOrder

_ELSEWHERE = ("backend.", "versions.")
"""What may differ between two machines that do the same job, in more than the last bits if it does."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How many rows are wished for, and which."""

    rows: int | None = None
    share: float = 0.0
    """Where no number is given: of all rows, 0 to 1."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the second time gave."""

    shards: tuple[int, ...]
    rows: int
    differences: tuple[str, ...]
    """How this machine differs from the one that made the run; then rows must agree, not be equal."""
    rows_different: int
    """With other bits in any column; not counted where the machine differs."""
    excesses: tuple[str, ...]
    """Beyond the tolerance of the precision, where the machine differs."""

    @property
    def is_same(self) -> bool:
        """Whether the run could be made again."""
        return not self.rows_different and not self.excesses


def replay_rows(path: str, wish: Wish, *, allow_remote_code: bool = False) -> Replayed:
    """Predict some rows of a run once more.

    Raises:
        DataError: no run in the folder, no part yet, or the input is not what it was.
        OutputConflict: the model or the options can no longer be had as they were.
        BatchNeuronError: whatever would stop the job itself.
    """
    found = find_run(path)
    folder, record, plan = found.folder, found.record, found.plan
    spec = JobSpec.model_validate(dict(record.spec))
    spec = spec.model_copy(update={"output": spec.output.model_copy(update={"path": path})})
    prepared = adopt_choices(prepare(spec, allow_remote_code=allow_remote_code), record)
    differences = _list_differences(prepared, record, folder.store.location)
    shards = _draw(plan, sorted(found.parts), wish)
    if not shards:
        raise DataError("no part is committed yet", folder.store.location, "run the job first")
    order = make_order(prepared, plan, record)
    sharing = Sharing(prepared.spec.backend.artifacts, prepared.spec.backend.artifacts_lock)
    compiled = compile_missing(prepared.backend, prepared.request, order.artifacts, sharing=sharing)
    order = replace(order, artifacts=compiled.artifacts)
    cores = () if prepared.spec.backend.workers == 0 else prepared.backend.list_cores()
    call = functools.partial(_redo, order, tuple(shards), is_same_machine=not differences)
    rows_different, excesses = call_aside(call, cores, "replay", limit_s=None)
    rows = sum(shard.rows for shard in shards)
    return Replayed(
        tuple(shard.index for shard in shards), rows, tuple(differences), rows_different, excesses
    )


def _list_differences(prepared: Prepared, record: RunRecord, where: str) -> list[str]:
    lines = name_differences(prepared.fingerprint.fields, record.fields)
    other = [line for line in lines if not line.startswith(_ELSEWHERE)]
    if other:
        named = "\n".join(f"    {line}" for line in other)
        hint = "replay reads input and model again: restore them as they were"
        raise OutputConflict(f"the run cannot be repeated\n{named}", where, hint)
    return lines


def _draw(plan: Plan, committed: Sequence[int], wish: Wish) -> list[Shard]:
    """Shards, drawn until they have as many rows as are wished for, in row order."""
    wished = wish.rows if wish.rows is not None else plan.rows * wish.share
    drawn: list[Shard] = []
    for index in random.Random(wish.seed).sample(committed, len(committed)):
        if drawn and sum(shard.rows for shard in drawn) >= wished:
            break
        drawn.append(plan.shards[index])
    return sorted(drawn, key=lambda shard: shard.index)


def _redo(order: WorkOrder, shards: Sequence[Shard], *, is_same_machine: bool) -> tuple[int, tuple[str, ...]]:
    """Rows with other bits, or how far they disagree; made in a process of its own."""
    runner = open_runner(order, lambda _: None)
    different, pairs = 0, []
    for shard in shards:
        with pq.ParquetFile(runner.folder.store.open_table(part_name(order.record, shard.index))) as file:
            stored = file.read()
        case = recall_case(stored[ERROR].to_pylist())  # what killed workers would kill this one
        predicted = runner.execute(runner.encode(shard, case))
        table = decode(predicted.data, predicted.executed, runner.task)
        if is_same_machine:
            different += count_different(table, stored)
        else:
            names = runner.task.schema.names
            pairs.append((table.select(names), stored.select(names).cast(runner.task.schema)))
    if is_same_machine:
        return different, ()
    ours, reference = (pa.concat_tables(tables) for tables in zip(*pairs, strict=True))
    tolerance = find_tolerance(_find_coarser(order), order.spec.backend.parity_tolerance)
    return 0, find_excesses(compare_tables(ours, reference).summarize(), tolerance)


def _find_coarser(order: WorkOrder) -> str:
    """Of the two machines' precisions, the one with the wider limits."""
    recorded = order.record.fields.get("backend")
    theirs = recorded.get("precision") if isinstance(recorded, dict) else None
    return "float32" if {theirs, order.spec.backend.precision} <= {"float32"} else "bfloat16"


def count_different(ours: pa.Table, stored: pa.Table) -> int:
    """Rows with other bits in any column; -0.0 is not 0.0, and any two NaN are the same."""
    if ours.column_names != stored.column_names:
        return int(stored.num_rows)
    different: set[int] = set()
    for name in stored.column_names:
        pairs = zip(ours[name].to_pylist(), stored[name].to_pylist(), strict=True)
        different |= {row for row, (mine, theirs) in enumerate(pairs) if repr(mine) != repr(theirs)}
    return len(different)
