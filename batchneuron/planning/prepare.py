"""Prepare: a spec to all that is known before a row is predicted.

Two steps, because a resumed run needs only the first: `prepare` resolves model, backend, source and
columns, without torch or a tokenizer; `make_plan` samples the data for the shapes and cuts the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from batchneuron.artifacts import default_cache, find_ready_shapes, list_artifacts
from batchneuron.artifacts.adopt import adopt_compiler
from batchneuron.artifacts.exchange import Sharing, find_shared_shapes
from batchneuron.backends import open_backend
from batchneuron.backends.backend import Backend, CompileRequest
from batchneuron.engines import Cluster
from batchneuron.errors import BatchNeuronError, Problem, SpecError
from batchneuron.ledger.run_record import RunRecord
from batchneuron.model import resolve_model
from batchneuron.planning.cost import count_tokens, estimate_cost
from batchneuron.planning.fingerprint import PROTOCOL, Fingerprint, digest_json
from batchneuron.planning.forecast import expect_item_s, forecast
from batchneuron.planning.ladder import LadderRequest, Sample, list_candidates, plan_ladder
from batchneuron.planning.plan import (
    MAX_SHARDS,
    Plan,
    Shard,
    cap_shard_rows,
    cut_shards,
    size_shards,
)
from batchneuron.planning.spread import PLACES, split_at_blocks, spread_rows
from batchneuron.sources import open_source
from batchneuron.sources.source import Inventory, ShardRows, Source
from batchneuron.spec.sections import JobSpec
from batchneuron.stages.columns import Columns, assume_columns, bind_columns
from batchneuron.stages.encode import choose, slice_rows
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import find_kind, open_task
from batchneuron.tasks.task import Encoder, Task
from batchneuron.workers.events import Failure
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.work_order import WorkOrder
from batchneuron.workers.worker import attempt

_LEAST_SAMPLED_ROWS, _MOST_SAMPLED_ROWS = 16, 256
"""From each place."""
_SAMPLED_SHARE = 0.25
"""Of an input of few rows: the sample is encoded in the command's own process, before any work begins."""
_SHORT_ROW_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Prepared:
    """A spec with everything it names found, opened and checked."""

    spec: JobSpec
    request: CompileRequest
    task: Task
    backend: Backend
    source: Source
    inventory: Inventory
    columns: Columns
    fingerprint: Fingerprint
    cluster: Cluster | None = None
    """Where the shards are done; None: on this machine."""


def prepare(spec: JobSpec, *, allow_remote_code: bool = False, elsewhere: bool = False) -> Prepared:
    """Resolve what the spec names.

    Args:
        spec: the job.
        allow_remote_code: let a model whose commit the spec pins run its own code.
        elsewhere: it will run on another machine than this one, which needs no stack then.

    Raises:
        SpecError: options or columns that the task does not know.
        DataError: the input is missing, unreadable, or lacks a column.
        ModelError: the model cannot be had.
        BackendError: this machine cannot run it.
    """
    kind = find_kind(spec.task)
    options = kind.options.model_validate(spec.options).model_dump(mode="json")
    backend = open_backend(spec, elsewhere=elsewhere)
    source = open_source(spec.input)
    inventory = source.inventory()
    if not inventory.rows and not inventory.schema.names:
        inventory = replace(inventory, schema=assume_columns(spec.input, kind))
    model = resolve_model(spec.model, kind.default_model, allow_remote_code=allow_remote_code)
    task = open_task(spec.task, options, model)
    columns = bind_columns(spec.input, kind, inventory.schema, task.schema)
    request = CompileRequest(spec.task, options, model)
    backend = backend if elsewhere else adopt_compiler(backend, spec, request)
    fingerprint = Fingerprint(_name_fields(spec, request, backend, inventory))
    return Prepared(spec, request, task, backend, source, inventory, columns, fingerprint)


def fix_precision(prepared: Prepared, precision: str) -> Prepared:
    """The same job with a precision chosen for it; `backend.precision: auto` leaves the choice to a run."""
    chosen = prepared.spec.backend.model_copy(update={"precision": precision})
    spec = prepared.spec.model_copy(update={"backend": chosen})
    backend = adopt_compiler(open_backend(spec), spec, prepared.request)
    return _exchange_backend(replace(prepared, spec=spec), backend)


def fix_compiler(prepared: Prepared, version: str) -> Prepared:
    """The same job with programs of that compiler; for a machine that has none itself."""
    return _exchange_backend(prepared, open_backend(prepared.spec, compiler_version=version))


def _exchange_backend(prepared: Prepared, backend: Backend) -> Prepared:
    fields = _name_fields(prepared.spec, prepared.request, backend, prepared.inventory)
    return replace(prepared, backend=backend, fingerprint=Fingerprint(fields))


def make_plan(prepared: Prepared) -> Plan:
    """The plan of a new run; reads a sample of the rows.

    Raises:
        SpecError: a shape is longer than the model allows.
    """
    spec, inventory = prepared.spec, prepared.inventory
    shards = cut_shards(inventory, choose_shard_rows(prepared), spec.input.limit)
    encoder = prepared.task.open_encoder()
    request = request_ladder(spec, prepared.backend, prepared.request, encoder.model_limit_tokens)
    limit = Limit(request.limit_tokens, spec.shapes.overflow)
    sample = _sample_items(prepared, shards, encoder, limit)
    if spec.output.shard_rows == "auto" and shards[-1].row_hi:
        items = sample.items_per_shard * sample.shards
        row_s = expect_item_s(sample, request) * items / shards[-1].row_hi
        shards = cut_shards(inventory, choose_shard_rows(prepared, row_s), spec.input.limit)
        sample = replace(sample, items_per_shard=items / len(shards), shards=len(shards))
    request = _ask_share(prepared, sample, request)
    ladder = plan_ladder(sample, request)
    tokens_per_row = float(sample.lengths.mean()) if sample.lengths.size else 0.0
    return Plan(
        shards,
        ladder,
        tokens_per_row,
        forecast(ladder, sample, request),
        skipped=inventory.skipped,
    )


def make_order(prepared: Prepared, plan: Plan, record: RunRecord) -> WorkOrder:
    """What workers are told."""
    spec = prepared.spec
    longest = plan.ladder.max_length
    return WorkOrder(
        spec=spec,
        request=prepared.request,
        columns=prepared.columns,
        read_schema=prepared.columns.needed(prepared.inventory.schema),
        ladder=plan.ladder,
        limit=Limit(min(longest, spec.shapes.max_length or longest), spec.shapes.overflow),
        artifacts=list_artifacts(prepared.backend, prepared.request, plan.ladder, default_cache()),
        record=record,
        calibration=plan.calibration,
    )


def choose_shard_rows(prepared: Prepared, row_s: float | None = None) -> int:
    """Rows per shard: what the spec says, or by the input, the task, and the work that a row is.

    Args:
        prepared: the job.
        row_s: seconds that a core takes for a row; None: rows are not sampled yet, and taken to be short,
            so that there will be no more of them than this.
    """
    wished = prepared.spec.output.shard_rows
    if wished != "auto":
        return size_shards(prepared.inventory, wished)
    if row_s is None:
        cost = estimate_cost(prepared.backend.facts.cost, prepared.request.model.config)
        row_s = _SHORT_ROW_TOKENS * cost.per_slot_s
    rows = size_shards(prepared.inventory, None, row_s)
    most = find_kind(prepared.spec.task).max_shard_rows or rows
    rows = min(rows, max(most, -(-prepared.inventory.rows // MAX_SHARDS)))
    return min(rows, cap_shard_rows(prepared.inventory, prepared.task.schema, _find_most_tokens(prepared)))


def _find_most_tokens(prepared: Prepared) -> int:
    """What a row that is not split can have: as the spec says, or else the model's configuration."""
    shapes, wished = prepared.spec.shapes, prepared.spec.shapes.sequence_length
    limits = [shapes.max_length, prepared.request.model.config.get("max_position_embeddings")]
    if wished != "auto":
        limits.append(wished if isinstance(wished, int) else max(wished))
    return min((limit for limit in limits if isinstance(limit, int) and limit > 0), default=512)


def request_ladder(
    spec: JobSpec, backend: Backend, program: CompileRequest, model_limit: int
) -> LadderRequest:
    """What is known of the shapes before the data is looked at.

    Raises:
        SpecError: a shape is longer than the model allows.
    """
    shapes, facts, model = spec.shapes, backend.facts, program.model
    lengths: tuple[int, ...] | None = None
    if shapes.sequence_length != "auto":
        wished = shapes.sequence_length
        lengths = (wished,) if isinstance(wished, int) else tuple(wished)
    asked = {
        "shapes.sequence_length": max(lengths, default=0) if lengths else 0,
        "shapes.max_length": shapes.max_length,
    }
    problems = [
        Problem("spec", key, f"{tokens} tokens, and the model takes {model_limit}", "choose a shorter one")
        for key, tokens in asked.items()
        if tokens and tokens > model_limit
    ]
    if problems:
        raise SpecError(tuple(problems))
    return LadderRequest(
        limit_tokens=min(
            model_limit, shapes.max_length or model_limit, max(lengths) if lengths else model_limit
        ),
        sequence_lengths=lengths,
        batch_size=None if shapes.batch_size == "auto" else shapes.batch_size,
        batch_slots=max(1, facts.batch_slots // count_tokens(model.config)),
        max_shapes=facts.cost.count_shapes(model.weights_bytes, facts.max_shapes),
        cost=estimate_cost(facts.cost, model.config),
        ready=find_ready_shapes(backend, program, default_cache()),
        compiles=facts.missing_compiler is None,
    )


def _ask_share(prepared: Prepared, sample: Sample, request: LadderRequest) -> LadderRequest:
    """The request, aware of what the shared store has; it is not asked where nothing would be missing."""
    wished = prepared.spec.backend
    if wished.artifacts is None or request.ready.issuperset(plan_ladder(sample, request).shapes):
        return request
    sharing, shapes = Sharing(wished.artifacts, wished.artifacts_lock), list_candidates(request)
    shared = find_shared_shapes(prepared.backend, prepared.request, shapes, sharing)
    return replace(request, ready=request.ready | shared)


def _sample_items(prepared: Prepared, shards: tuple[Shard, ...], encoder: Encoder, limit: Limit) -> Sample:
    """Tokens of the items of some rows from all over the input."""
    reader = prepared.source.open_reader(prepared.columns.needed(prepared.inventory.schema))
    lengths = [np.zeros(0, dtype=np.int32)]
    # Where items have one length there is nothing to learn, and images take long to decode.
    is_even = encoder.model_limit_tokens == 1
    rows, places = (1, min(PLACES, len(shards))) if is_even else (_rows_per_place(shards), PLACES)
    sampled_rows, failure = 0, None
    for some in spread_rows(split_at_blocks(shards, prepared.inventory), rows, places):
        counted = _count_tokens(
            reader.read(some.shard.slices),
            lambda rows: encoder.encode(choose(rows, prepared.columns).inputs, limit).items.lengths,
        )
        lengths += counted.lengths
        sampled_rows += counted.rows
        failure = failure or counted.failure
    reader.close()
    if failure is not None and not sampled_rows:
        raise rebuild_error(failure, "planning")
    found = np.concatenate(lengths)
    items = len(found) * shards[-1].row_hi / max(1, sampled_rows)
    return Sample(found, items / len(shards), len(shards))


def _rows_per_place(shards: tuple[Shard, ...]) -> int:
    share = int(_SAMPLED_SHARE * shards[-1].row_hi / PLACES)
    return min(max(share, _LEAST_SAMPLED_ROWS), _MOST_SAMPLED_ROWS)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Tokens of some rows' items."""

    lengths: tuple[NDArray[np.int32], ...]
    rows: int
    failure: Failure | None = None
    """Of a row that was left out."""


def _count_tokens(rows: ShardRows, count: Callable[[ShardRows], NDArray[np.int32]]) -> _Counted:
    """What is counted of some rows, but for those whose call raises: the run finds and rejects them."""
    counted = attempt(lambda: count(rows), passing=(BatchNeuronError,))
    if not isinstance(counted, Failure):
        return _Counted((counted,), rows.table.num_rows)
    middle, end = rows.table.num_rows // 2, rows.table.num_rows
    if not middle:
        return _Counted((), 0, counted)
    halves = slice_rows(rows, 0, middle, ()), slice_rows(rows, middle, end, ())
    first, second = (_count_tokens(half, count) for half in halves)
    lengths = first.lengths + second.lengths
    return _Counted(lengths, first.rows + second.rows, first.failure or second.failure)


def _name_fields(
    spec: JobSpec, request: CompileRequest, backend: Backend, inventory: Inventory
) -> Mapping[str, JsonValue]:
    """Everything that can change a prediction or a part's boundaries, by name."""
    facts, model = backend.facts, request.model
    files: list[JsonValue] = [
        [file.file.uri, file.file.size_bytes, file.file.version] for file in inventory.files
    ]
    given = spec.model_dump(mode="json")
    return {
        "protocol": PROTOCOL,
        "task": spec.task,
        "options": dict(request.options),
        "model": {"commit": model.commit, "digest": model.digest, "dtype": spec.model.dtype},
        "input": {
            "files": digest_json(files),
            "columns": given["input"]["columns"],
            "keep": given["input"]["keep"],
            "limit": given["input"]["limit"],
            # Left out where it is the default: folders that are older than the key stay what they are.
            **({"encoding_errors": "replace"} if spec.input.encoding_errors == "replace" else {}),
        },
        "shapes": given["shapes"],
        "shard_rows": given["output"]["shard_rows"],
        "backend": {
            "kind": facts.kind,
            "target": facts.target,
            "precision": facts.precision,
            "compiler_args": dict(facts.compiler_args),
        },
        "versions": {**facts.versions, **{name: version(name) for name in find_kind(spec.task).libraries}},
    }
