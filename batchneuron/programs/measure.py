"""Measure: what a compiled program and the reference make of the same rows of the job's own input.

The reference is eager float32 PyTorch on the CPU, fed the same batches with the same padding. Each program
runs rows from its shortest, which are nearly all padding, to those that fill it: a mask that is ignored
shows where there is padding, and a wrong position where there is none. A few rows go through the reference
alone as well, without padding: some models do not mask it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.backends.backend import Executable
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import SpecError
from batchneuron.planning.plan import Shard
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.planning.spread import PLACES, spread_rows
from batchneuron.programs.agreement import Agreement, ShapeAgreement, Tolerance
from batchneuron.programs.compare import compare_tables
from batchneuron.programs.padding import measure_padding
from batchneuron.stages.encode import choose
from batchneuron.stages.execute import Executed, execute
from batchneuron.stages.items import Items, OutputBatch
from batchneuron.stages.runner import Runner, open_runner
from batchneuron.stages.tokenize import Limit
from batchneuron.workers.work_order import WorkOrder

_ROWS_TO_CHOOSE_FROM = 4  # times the rows wished
_FULL_ROWS_TOKENS = 128  # longer shapes, and rows of many items, get fewer: the reference is slow
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
    items_per_row: float
    """On the mean; a row is an item for each label, or each window, of some tasks."""


def measure(order: WorkOrder, shards: Sequence[Shard], tolerance: Tolerance) -> tuple[Verdict, ...]:
    """A verdict on each artifact of the order.

    Args:
        order: the job, with the artifacts to measure.
        shards: those that the sample is spread over.
        tolerance: tells a choice that is even from one that is wrong.

    Raises:
        BatchNeuronError: whatever would stop the job itself.
    """
    spec = order.spec.backend
    runner = open_runner(order, lambda _: None)
    eager = spec.model_copy(update={"kind": "torch", "precision": "float32", "compiler_args": {}})
    # Its bits do not matter, and with large models it is what a first run waits for.
    reference = TorchBackend(eager, order.spec.model, threads=len(os.sched_getaffinity(0)))
    sample = _read_sample(runner, shards, spec.parity_rows)
    longest = max((each.shape.sequence_length for each in runner.executables), default=0)

    def load(shape: Shape) -> Executable:
        return reference.load(Path("reference"), shape, order.request)

    verdicts = []
    for executable in runner.executables:
        picks, items = _fit(runner, sample, executable.shape)
        found = ShapeAgreement(str(executable.shape), Agreement(0))
        if items is not None:
            shape = replace(executable.shape, batch_size=min(executable.shape.batch_size, len(items)))
            found = _hold(runner, items, (executable, load(shape)), sample.ordinals[picks], tolerance)
            if executable.shape.sequence_length == longest:
                found = replace(found, padding_error=measure_padding(items, longest, load))
        digest = _digest(sample.inputs.take(pa.array(picks)))
        verdicts.append(Verdict(found, spec.parity_rows, order.request.model.digest, digest))
    return tuple(verdicts)


def _read_sample(runner: Runner, shards: Sequence[Shard], rows_wished: int) -> _Sample:
    """Rows from all over the input, without those that the task itself rejects."""
    # Images are all as long, and take time to decode.
    is_even = runner.encoder.model_limit_tokens == 1
    choice, spots = (1, min(PLACES, len(shards))) if is_even else (_ROWS_TO_CHOOSE_FROM, PLACES)
    spread = spread_rows(shards, -(-choice * rows_wished // spots), spots)
    ordinals = [np.zeros(0, dtype=np.int64), *(some.ordinals for some in spread)]
    rows = runner.reader.read([piece for some in spread for piece in some.shard.slices])
    chosen = choose(rows, runner.order.columns)
    items = runner.encoder.encode(chosen.inputs, runner.order.limit).items
    accepted, firsts = np.unique(items.rows, return_index=True)
    lengths = np.maximum.reduceat(items.lengths, firsts) if len(firsts) else items.lengths
    places = chosen.candidates[accepted]
    return _Sample(
        inputs=chosen.inputs.take(pa.array(accepted)),
        ordinals=np.concatenate(ordinals)[places],
        lengths=lengths,
        items_per_row=len(items) / max(1, len(accepted)),
    )


def _fit(runner: Runner, sample: _Sample, shape: Shape) -> tuple[NDArray[np.intp], Items | None]:
    """Rows for a shape, and their items; where none fits, a few of the shortest, cut. None: none can be."""
    wished = runner.order.spec.backend.parity_rows
    picks = _choose_rows(sample, shape, wished)
    if len(picks):
        return _encode(runner, sample, picks, runner.order.limit)
    shortest = np.sort(np.argsort(sample.lengths, kind="stable")[: min(wished, _LEAST_ROWS)])
    try:
        return _encode(runner, sample, shortest, Limit(shape.sequence_length, "truncate"))
    except SpecError:  # so short that no text has room in it
        return picks, None


def _encode(
    runner: Runner, sample: _Sample, picks: NDArray[np.intp], limit: Limit
) -> tuple[NDArray[np.intp], Items | None]:
    """The items of some rows, and which of the rows have any."""
    items = runner.encoder.encode(sample.inputs.take(pa.array(picks)), limit).items
    present, rows = np.unique(items.rows, return_inverse=True)
    return picks[present], replace(items, rows=rows.astype(np.int64)) if len(items) else None


def _choose_rows(sample: _Sample, shape: Shape, wished: int) -> NDArray[np.intp]:
    """Rows that fit a shape, evenly from the shortest to the longest, in their order."""
    share = min(1.0, _FULL_ROWS_TOKENS / shape.sequence_length) / max(1.0, sample.items_per_row)
    count = min(wished, max(_LEAST_ROWS, int(wished * share)))
    fitting = np.flatnonzero(sample.lengths <= shape.sequence_length)
    ordered = fitting[np.argsort(sample.lengths[fitting], kind="stable")]
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
