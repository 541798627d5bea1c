"""`Predictor`: a callable for pipelines that bring batches of columns, such as Ray Data's `map_batches`.

The way of the rows is that of a job: the same columns, program, artifacts, shapes and decoding. What a job
does for a run as a whole is left out: nothing is planned from a sample, and no row is remembered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchneuron.artifacts import default_cache, list_artifacts
from batchneuron.artifacts.adopt import adopt_compiler
from batchneuron.artifacts.exchange import Sharing
from batchneuron.backends import open_backend
from batchneuron.backends.backend import Backend, CompileRequest, Executable
from batchneuron.model import resolve_model
from batchneuron.planning.ladder import LadderRequest, Sample, plan_ladder
from batchneuron.planning.plan import Shard
from batchneuron.planning.prepare import request_ladder
from batchneuron.planning.shapes import Ladder
from batchneuron.programs.compile import compile_missing
from batchneuron.programs.padding import open_reference, require_known
from batchneuron.run import load_job
from batchneuron.sources.source import FileId, ShardRows, Slice
from batchneuron.spec.parse import parse_spec
from batchneuron.spec.sections import JobSpec
from batchneuron.stages.columns import ROW, Columns, bind_columns
from batchneuron.stages.decode import decode, output_schema
from batchneuron.stages.encode import encode
from batchneuron.stages.execute import execute
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import INPUTS, OPTIONS, find_kind, open_task

_NOWHERE, _NOTHING = "-", "--"  # rows come from the caller, and go back there
_SHAPES = 5
_SHORTEST = 8
_MANY = 1_000_000.0  # items, as far as the choice of a batch size goes


class Predictor:
    """Batches of columns in; the same rows, with predictions as further columns, out."""

    def __init__(  # noqa: PLR0913  # the caller's pipeline gives them by name
        self,
        task: str | None = None,
        model: str | None = None,
        columns: Mapping[str, str] | None = None,
        input_shapes: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        backend: Mapping[str, Any] | None = None,
        spec: str | Path | JobSpec | None = None,
    ) -> None:
        """Compile the program if need be, and load it.

        Args:
            task: a task's name; may be left out where there is a spec.
            model: hub id or folder; by default the task's.
            columns: task input ← a column, or a template over columns; by default columns named like inputs.
            input_shapes: `batch_size`, and `sequence_length`: a number, or a list of them; by default five
                lengths, each half of the next, the last the model's own limit.
            options: the task's own.
            backend: keys of a spec's `backend` section: `kind`, `precision`, `compiler_args`, ….
            spec: a job's YAML file or record, of which all but input.path and output is taken; what else is
                said here goes before it.

        Raises:
            SpecError: with all that is wrong with the arguments.
            ModelError: the model cannot be had.
            BackendError: this machine cannot run it.
            CompileError: the program cannot be compiled.
            ParityError: the model's outputs depend on padding, and backend.parity_rows is not 0.
        """
        said = {"task": task, "model": model and {"id": model}, "columns": columns, "shapes": input_shapes}
        job = _make_spec({**said, "options": options, "backend": backend}, spec)
        self._spec, opened = job, open_backend(job)
        self._request = _resolve(job)
        self._backend = adopt_compiler(opened, job, self._request)
        self._task = open_task(job.task, self._request.options, self._request.model)
        self._encoder = self._task.open_encoder()
        self._ladder = _plan(
            request_ladder(job, self._backend, self._request, self._encoder.model_limit_tokens)
        )
        longest = self._ladder.max_length
        self._limit = Limit(min(longest, job.shapes.max_length or longest), job.shapes.overflow)
        self._executables = _load(job, self._backend, self._request, self._ladder)
        self._bound: tuple[pa.Schema, Columns] | None = None

    def __call__(self, batch: Any) -> pa.Table:
        """The batch's rows in their order: its own columns, the task's, `_truncated` and `_error`.

        A row that has no prediction has nulls there, and the reason in `_error {code, message}`.

        Args:
            batch: a pyarrow.Table, a mapping of column names to arrays or lists, or a pandas.DataFrame.

        Raises:
            ColumnMissing: a column is not there.
            TypeError: it is no such batch.
        """
        table = _read_batch(batch)
        columns = self._bind(table.schema)
        if not table.num_rows:
            return output_schema(columns.kept(table.schema), self._task.schema).remove(0).empty_table()
        shard = Shard(0, 0, (Slice(FileId("", 0, ""), 0, table.num_rows, 0, 0),))
        encoded = encode(shard, ShardRows(table), columns, self._encoder, self._limit)
        executed = execute(
            encoded.items,
            self._ladder,
            self._executables,
            self._request.model.config.get("vocab_size"),
            lambda _: None,
            spills=self._backend.facts.is_bit_stable_across_shapes,
        )
        return decode(encoded, executed, self._task).drop_columns([ROW])

    def _bind(self, schema: pa.Schema) -> Columns:
        """Which columns are read; batches of one pipeline have one schema, or few."""
        if self._bound is None or self._bound[0] != schema:
            kind = find_kind(self._spec.task)
            self._bound = (schema, bind_columns(self._spec.input, kind, schema, self._task.schema))
        return self._bound[1]


def _make_spec(said: dict[str, Any], given: str | Path | JobSpec | None) -> JobSpec:
    """A job's record for rows that are in no file."""
    job = load_job(given) if isinstance(given, (str, Path)) else given
    document: dict[str, Any] = job.model_dump(mode="json", exclude_unset=True) if job else {}
    document["input"] = {"columns": document.get("input", {}).get("columns", {}), "path": _NOWHERE}
    document["output"] = {"path": _NOTHING}
    if said["columns"] is not None:
        document["input"]["columns"] = dict(said["columns"])
    if said["task"] is not None:
        document["task"] = said["task"]
    for section in ("model", "shapes", "options", "backend"):
        if said[section] is not None:
            document[section] = {**document.get(section, {}), **said[section]}
    if document.get("backend", {}).get("precision", "auto") == "auto":
        # No parity gate stands before these rows, so nothing is chosen that would need it.
        document["backend"] = {**document.get("backend", {}), "precision": "float32"}
    return parse_spec(json.dumps(document), "Predictor", (), OPTIONS, INPUTS)


def _resolve(job: JobSpec) -> CompileRequest:
    """The program.

    Raises:
        ValueError: options that are calibrated over a whole data set.
    """
    kind = find_kind(job.task)
    options = kind.options.model_validate(job.options)
    if kind.needs_calibration(options):
        raise ValueError("these options are calibrated over a whole data set: run a job")
    model = resolve_model(job.model, kind.default_model)
    return CompileRequest(job.task, options.model_dump(mode="json"), model)


def _plan(request: LadderRequest) -> Ladder:
    """The shapes: those that were said, or the model's limit and its halves; the data has no say in it."""
    if request.sequence_lengths is None:
        most = request.limit_tokens
        halves = {most >> step for step in range(_SHAPES)}
        request = replace(
            request, sequence_lengths=tuple(sorted(half for half in halves if half >= _SHORTEST)) or (most,)
        )
    return plan_ladder(Sample(np.zeros(0, np.int32), _MANY), request)


def _load(job: JobSpec, backend: Backend, request: CompileRequest, ladder: Ladder) -> tuple[Executable, ...]:
    """The loaded programs, one per shape; what another process compiles already is waited for."""
    artifacts = list_artifacts(backend, request, ladder, default_cache())
    sharing = Sharing(job.backend.artifacts, job.backend.artifacts_lock)
    compiled = compile_missing(backend, request, artifacts, sharing=sharing)
    executables = tuple(backend.load(each.folder, each.shape, request) for each in compiled.artifacts)
    if job.backend.parity_rows:
        longest = compiled.artifacts[-1]
        reference = open_reference(backend, job, request, longest.folder)
        require_known(request, longest.shape.sequence_length, longest.folder, reference)
    return executables


def _read_batch(batch: Any) -> pa.Table:
    """The batch as a table."""
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, Mapping):
        return pa.table({name: _read_column(column) for name, column in batch.items()})
    if hasattr(batch, "columns") and hasattr(batch, "iloc"):
        return pa.Table.from_pandas(batch, preserve_index=False)
    raise TypeError(f"a batch is a pyarrow.Table, a mapping or a DataFrame, not {type(batch).__name__}")


def _read_column(column: Any) -> pa.Array | pa.ChunkedArray:
    """Arrow's array of a column; of an array with several dimensions, a list per row."""
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    is_nested = isinstance(column, np.ndarray) and column.ndim > 1
    rows: Sequence[Any] = list(column) if is_nested else column
    return pa.array(rows)
