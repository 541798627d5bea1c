"""Measure: what a compiled program and the reference make of the same rows of the job's own input.

The reference is eager float32 PyTorch on the CPU, fed the same batches with the same padding. Each program
runs rows from its shortest, which are nearly all padding, to those that fill it: a mask that is ignored
shows where there is padding, and a wrong position where there is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.backends.backend import Executable
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.planning.plan import Shard, head_slices
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.programs.agreement import Agreement, ShapeAgreement, Tolerance
from batchneuron.programs.compare import compare_tables
from batchneuron.stages.execute import Executed, execute
from batchneuron.stages.items import Items, OutputBatch
from batchneuron.stages.runner import Runner, open_runner
from batchneuron.workers.work_order import WorkOrder

_ROWS_TO_CHOOSE_FROM = 4  # times the rows wished
_FULL_ROWS_TOKENS = 128  # longer shapes get fewer rows: the reference is slow, and tokens count, not rows
_LEAST_ROWS = 8
_EXAMPLES = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """What lies beside an artifact, one for each shape it serves."""

    found: ShapeAgreement
    rows_wished: int
    model: str
    """Digest of the model."""
    sample: str
    """SHA-256 of the rows it was measured with."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """A rows of the input that the task accepts."""

    inputs: pa.Table
    ordinals: NDArray[np.int64]
    lengths: NDArray[np.int32]
    """Tokens of each row's longest item: [A]"""


def measure(order: WorkOrder, shards: Sequence[Shard], tolerance: Tolerance) -> tuple[Verdict, ...]:
    """A verdict on each artifact of the order.

    Args:
        order: the job, with the artifacts to measure.
        shards: those whose first rows are the sample.
        tolerance: tells a choice that is even from one that is wrong.

    Raises:
        BatchNeuronError: whatever would stop the job itself.
    """
    spec = order.spec.backend
    runner = open_runner(order, lambda _: None)
    eager = spec.model_copy(update={"kind": "torch", "precision": "float32", "compiler_args": {}})
    reference = TorchBackend(eager, order.spec.model)
    sample = _read_sample(runner, shards, spec.parity_rows)
    verdicts = []
    for executable in runner.executables:
        picks = _choose_rows(sample.lengths, executable.shape, spec.parity_rows)
        chosen = sample.inputs.take(pa.array(picks))
        found = ShapeAgreement(str(executable.shape), Agreement(0))
        if len(picks):
            items = runner.encoder.encode(chosen, order.limit).items
            shape = replace(executable.shape, batch_size=min(executable.shape.batch_size, len(items)))
            other = reference.load(Path("reference"), shape, order.request)
            found = _hold(runner, items, (executable, other), sample.ordinals[picks], tolerance)
        digest = _digest(chosen)
        verdicts.append(Verdict(found, spec.parity_rows, order.request.model.digest, digest))
    return tuple(verdicts)


def _read_sample(runner: Runner, shards: Sequence[Shard], rows_wished: int) -> _Sample:
    """Rows from all over the input, without those that the task itself rejects."""
    # Images are all as long, and take time to decode.
    choice = 1 if runner.encoder.model_limit_tokens == 1 else _ROWS_TO_CHOOSE_FROM
    each = -(-choice * rows_wished // len(shards))
    slices = [head_slices(shard, each) for shard in shards]
    ordinals = [np.arange(shard.row_lo, shard.row_lo + min(each, shard.rows)) for shard in shards]
    rows = runner.reader.read([piece for head in slices for piece in head])
    inputs = runner.order.columns.pick_inputs(rows.table)
    is_usable = np.ones(rows.table.num_rows, dtype=np.bool_)
    is_usable[[rejection.row for rejection in rows.rejections]] = False
    for name in inputs.column_names:
        is_usable &= inputs[name].is_valid().to_numpy()
    usable = np.flatnonzero(is_usable)
    items = runner.encoder.encode(inputs.take(pa.array(usable)), runner.order.limit).items
    accepted, firsts = np.unique(items.rows, return_index=True)
    lengths = np.maximum.reduceat(items.lengths, firsts) if len(firsts) else items.lengths
    places = usable[accepted]
    return _Sample(inputs.take(pa.array(places)), np.concatenate(ordinals)[places], lengths)


def _choose_rows(lengths: NDArray[np.int32], shape: Shape, wished: int) -> NDArray[np.intp]:
    """Rows that fit a shape, evenly from the shortest to the longest, in their order."""
    count = min(wished, max(_LEAST_ROWS, wished * _FULL_ROWS_TOKENS // shape.sequence_length))
    fitting = np.flatnonzero(lengths <= shape.sequence_length)
    ordered = fitting[np.argsort(lengths[fitting], kind="stable")]
    if len(ordered) <= count:
        return fitting
    return np.sort(ordered[np.linspace(0, len(ordered) - 1, count).round().astype(np.intp)])


def _hold(
    runner: Runner,
    items: Items,
    executables: tuple[Executable, Executable],
    ordinals: NDArray[np.int64],
    tolerance: Tolerance,
) -> ShapeAgreement:
    """What the program and the reference make of the items of A rows."""
    vocabulary = runner.order.request.model.config.get("vocab_size")
    ran = [
        execute(items, Ladder((executable.shape,)), (executable,), vocabulary, lambda _: None)
        for executable in executables
    ]
    tables = [_decode(runner, items, len(ordinals), executed) for executed in ran]
    errors = _measure_errors(items, len(ordinals), executables[0].shape, ran)
    # What the reference cannot predict either says nothing of the program.
    kept = tables[1][tables[1].column_names[0]].is_valid().to_numpy()
    rows = compare_tables(*(table.filter(pa.array(kept)) for table in tables))
    rows = rows.excuse(errors[kept] <= tolerance.output_error)
    worst = ordinals[kept][rows.find_worst(_EXAMPLES)]
    return ShapeAgreement(str(executables[0].shape), rows.summarize(), tuple(worst.tolist()))


def _decode(runner: Runner, items: Items, rows: int, executed: Executed) -> pa.Table:
    """Predictions of A rows, null where there is none."""
    decoded = runner.task.decode(items, rows, executed.outputs)
    is_rejected = np.zeros(rows, dtype=np.bool_)
    is_rejected[items.rows[~executed.finite]] = True
    is_rejected[[rejection.row for rejection in decoded.rejections]] = True
    return decoded.columns.take(pa.array(np.arange(rows), mask=is_rejected))


def _measure_errors(items: Items, rows: int, shape: Shape, ran: Sequence[Executed]) -> NDArray[np.float64]:
    """How far the program's outputs are from the reference's, relative to their length: [rows].

    Decoding makes a large step of a small one where two classes are even; this is the size of the step.
    """
    gaps, sizes = np.zeros(rows), np.zeros(rows)
    for mine, theirs in zip(*(executed.outputs.batches for executed in ran), strict=True):
        for ours, reference in zip(_cut(mine, items, shape), _cut(theirs, items, shape), strict=True):
            axes = tuple(range(1, ours.ndim))
            np.add.at(gaps, items.rows[mine.picks], ((ours - reference) ** 2).sum(axis=axes))
            np.add.at(sizes, items.rows[mine.picks], (reference**2).sum(axis=axes))
    with np.errstate(divide="ignore", invalid="ignore"):
        errors: NDArray[np.float64] = np.where(gaps == 0, 0.0, np.sqrt(gaps / sizes))
    return errors


def _cut(batch: OutputBatch, items: Items, shape: Shape) -> list[NDArray[np.float64]]:
    """The outputs that are numbers, zero where there is no token."""
    places = np.arange(shape.sequence_length)
    kept = []
    for tensor in batch.tensors:
        if not np.issubdtype(tensor.dtype, np.floating):
            continue
        numbers = tensor.astype(np.float64)
        if tensor.ndim > 1 and tensor.shape[1] == len(places) > 1:
            numbers[places >= items.lengths[batch.picks][:, None]] = 0.0
        kept.append(numbers)
    return kept


def _digest(rows: pa.Table) -> str:
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, rows.schema) as stream:
        stream.write_table(rows.combine_chunks())
    return hashlib.sha256(buffer.getvalue()).hexdigest()
