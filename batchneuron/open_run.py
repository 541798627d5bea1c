"""Open: a run folder that is ready for a job, new or begun earlier, its programs compiled and checked.

A new folder is claimed last: before that nothing is written, so that a program that fails to compile, or
disagrees with the reference, leaves no run behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from batchneuron.engines import choose_aside, count_workers
from batchneuron.errors import Incomplete, OutputConflict, ParityError, SourceChanged
from batchneuron.ledger.run_folder import RunFolder, draft_run
from batchneuron.ledger.run_record import RunRecord
from batchneuron.planning.fingerprint import name_differences
from batchneuron.planning.plan import Plan, Shard, expect_part_bytes
from batchneuron.planning.prepare import (
    Prepared,
    choose_shard_rows,
    fix_compiler,
    fix_precision,
    make_order,
    make_plan,
)
from batchneuron.planning.spread import split_at_blocks
from batchneuron.programs.agreement import Parity
from batchneuron.programs.calibrate import calibrate
from batchneuron.programs.compile import Compiled, CompileWatch, Sharing, compile_missing
from batchneuron.programs.parity import check_parity, list_unchecked
from batchneuron.secrets import redact
from batchneuron.sources.source import FileId
from batchneuron.spec.sections import JobSpec
from batchneuron.stores import open_store
from batchneuron.tasks import find_kind
from batchneuron.watch import Watch
from batchneuron.workers.aside import Aside
from batchneuron.workers.work_order import WorkOrder

_SAFE = "float32"
_PARTS_PER_WORKER = 2  # one being written, one that S3 is taking its time with


@dataclass(frozen=True, slots=True)
class Opened:
    """A run folder that is ready for this job: new, or begun earlier."""

    prepared: Prepared
    plan: Plan
    folder: RunFolder
    order: WorkOrder
    missing: tuple[Shard, ...]
    """Shards without a part, in row order."""
    workers: int
    compiled: Compiled | None
    """Keeps the programs from being deleted; None where none is needed."""


@dataclass(frozen=True, slots=True)
class _Built:
    """A job whose programs are there and agree with the reference."""

    prepared: Prepared
    order: WorkOrder
    plan: Plan
    parity: Parity
    compiled: Compiled


def open_run(
    prepared: Prepared, watch: Watch | None = None, *, overwrite: bool = False, frozen: str | None = None
) -> Opened:
    """Claim the run folder, or find that this very job was begun there.

    Args:
        prepared: the job.
        watch: is told what happens, and asked whether to go on.
        overwrite: begin anew where there is another run, or this one and finished, or this one without its
            plan; this one unfinished is taken up all the same, so that a command with `--overwrite` can be
            repeated after it was killed.
        frozen: file of the plan that a new run takes, put into the folder before; None: it makes one.

    Raises:
        OutputConflict: it belongs to another run; the message names what differs.
        SourceChanged: an input file is not the one the run was begun with.
        CompileError: a program cannot be compiled.
        ParityError: a program does not agree with the reference.
        Incomplete: stopped.
    """
    watch = watch or Watch()
    folder = RunFolder(open_store(prepared.spec.output.path))
    record, built = folder.read_run(), None
    begun = record if overwrite and record is not None and _is_over(prepared, folder, record) else None
    if record is None or begun is not None:
        plan = None if frozen is None else _read_frozen(prepared, folder, frozen)
        _verify(prepared, folder)
        built = _build_new(prepared, plan, watch)
        record = _claim(built, redact_spec(prepared.spec), folder, begun)
    # Another runner may have claimed it meanwhile: what its record says is what counts.
    prepared = adopt_choices(prepared, record)
    _require_same(prepared, folder, record)
    folder.store.prepare(record.run8)
    plan = folder.read_plan(record)
    parts = folder.list_parts(record)
    folder.require_sizes(record, plan, parts)
    missing = tuple(shard for shard in plan.shards if shard.index not in parts)
    order = make_order(prepared, plan, record)
    compiled = built.compiled if built and built.order.record.fingerprint == record.fingerprint else None
    if missing:
        if compiled is None:
            _verify(prepared, folder)
            compiled = _compile(prepared, order, watch)
            _check(prepared, replace(order, artifacts=compiled.artifacts), plan, watch)
        order = replace(order, artifacts=compiled.artifacts)
    workers = min(_count_workers(prepared), len(missing)) if missing else 0
    return Opened(prepared, plan, folder, order, missing, workers, compiled)


def _is_over(prepared: Prepared, folder: RunFolder, record: RunRecord) -> bool:
    """Whether a run is to be overwritten: it is another one, or finished, or its plan is lost."""
    is_same = adopt_choices(prepared, record).fingerprint.fields == record.fields
    return not is_same or folder.read_manifest(record) is not None or not folder.has_plan(record)


def _claim(
    built: _Built, spec: Mapping[str, JsonValue], folder: RunFolder, begun: RunRecord | None
) -> RunRecord:
    """The record that the folder now has: of this run, or of the one that was first."""
    fingerprint = built.prepared.fingerprint
    if begun is None:
        return folder.create_run(fingerprint, built.plan, spec, built.parity)
    record = replace(draft_run(fingerprint, built.plan, spec), parity=built.parity)
    return folder.replace_run(begun, record, built.plan)


def find_begun(prepared: Prepared, folder: RunFolder) -> tuple[Prepared, RunRecord | None]:
    """The job as it was frozen when the folder's run was opened, and that run; None: there is none."""
    record = folder.read_run()
    if record is None:
        return prepared, None
    frozen = adopt_choices(prepared, record)
    return (frozen, record) if frozen.fingerprint.fields == record.fields else (prepared, None)


def adopt_choices(prepared: Prepared, record: RunRecord) -> Prepared:
    """The job with what was chosen when the run was opened.

    The precision that `auto` stood for; and where this machine has no compiler, that of the run's programs.
    """
    precision = _read_recorded(record, "backend", "precision")
    if prepared.spec.backend.precision == "auto" and precision is not None:
        prepared = fix_precision(prepared, precision)
    missing = prepared.backend.facts.missing_compiler
    version = None if missing is None else _read_recorded(record, "versions", missing)
    return prepared if version is None else fix_compiler(prepared, version)


def _read_recorded(record: RunRecord, section: str, name: str) -> str | None:
    """A text among the fields that a run was opened with."""
    fields = record.fields.get(section)
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else None


def _verify(prepared: Prepared, folder: RunFolder) -> None:
    """Hold the store against what the job needs of it, before a program is compiled or a row predicted.

    Raises:
        OutputUnwritable: it cannot take the job's parts.
    """
    limit, shard_rows = prepared.spec.input.limit, choose_shard_rows(prepared)
    part_bytes = expect_part_bytes(
        prepared.inventory, shard_rows if limit is None else min(limit, shard_rows)
    )
    folder.store.verify(_PARTS_PER_WORKER * max(1, _count_workers(prepared)) * part_bytes)


def _count_workers(prepared: Prepared) -> int:
    """On this machine."""
    if prepared.cluster is not None:
        return 1
    return count_workers(prepared.backend, prepared.request.model, prepared.spec.backend.workers)


def _read_frozen(prepared: Prepared, folder: RunFolder, name: str) -> Plan:
    """A plan that was made before, by another process.

    Raises:
        SourceChanged: the input is not what it was made for.
    """
    plan = folder.read_frozen(name)
    planned, found = _list_planned(plan), _list_found(prepared)
    if planned == found or (prepared.spec.input.limit is not None and planned <= found):
        return plan
    raise SourceChanged(_name_changes(planned, found), prepared.spec.input.path, "submit the job again")


def _list_planned(plan: Plan) -> set[FileId]:
    return {piece.file for shard in plan.shards for piece in shard.slices}


def _list_found(prepared: Prepared) -> set[FileId]:
    return {file.file for file in prepared.inventory.files if file.rows}


def _build_new(prepared: Prepared, plan: Plan | None, watch: Watch) -> _Built:
    """A new run's plan and programs; under `auto` in float32 where the backend's own choice disagrees."""
    if prepared.spec.backend.precision != "auto":
        return _build(prepared, plan, watch)
    chosen = prepared.backend.facts.precision
    try:
        return _build(fix_precision(prepared, chosen), plan, watch)
    except ParityError as error:
        if chosen == _SAFE:
            raise
        watch.on_fallback(error)
        return _build(fix_precision(prepared, _SAFE), plan, watch)


def _build(prepared: Prepared, plan: Plan | None, watch: Watch) -> _Built:
    plan, spec = plan or make_plan(prepared), redact_spec(prepared.spec)
    order = make_order(prepared, plan, draft_run(prepared.fingerprint, plan, spec))
    compiled = _compile(prepared, order, watch)
    order = replace(order, artifacts=compiled.artifacts)
    kind = find_kind(prepared.spec.task)
    if kind.needs_calibration(kind.options.model_validate(dict(prepared.request.options))):
        shards = split_at_blocks(plan.shards, prepared.inventory)
        plan = replace(plan, calibration=calibrate(order, shards, _choose_aside(prepared)))
        record = draft_run(prepared.fingerprint, plan, spec)
        order = replace(order, calibration=plan.calibration, record=record)
    return _Built(prepared, order, plan, _check(prepared, order, plan, watch), compiled)


def _compile(prepared: Prepared, order: WorkOrder, watch: Watch) -> Compiled:
    count = len({artifact.folder for artifact in order.artifacts})
    return compile_missing(
        prepared.backend,
        prepared.request,
        order.artifacts,
        CompileWatch(lambda event: watch.on_compile(event, count), watch.is_stopped),
        Sharing(prepared.spec.backend.artifacts, prepared.spec.backend.artifacts_lock),
    )


def _check(prepared: Prepared, order: WorkOrder, plan: Plan, watch: Watch) -> Parity:
    facts = prepared.backend.facts
    unchecked = list_unchecked(order.artifacts, facts, prepared.spec.backend)
    if unchecked:
        watch.on_check(len(unchecked))
    shards = split_at_blocks(plan.shards, prepared.inventory)
    parity = check_parity(order, facts, shards, _choose_aside(prepared))
    if watch.is_stopped():
        raise Incomplete("stopped before the first shard", prepared.spec.output.path)
    return parity


def _choose_aside(prepared: Prepared) -> Aside:
    return choose_aside(prepared.backend, prepared.spec.backend.workers, prepared.cluster)


def redact_spec(spec: JobSpec) -> dict[str, JsonValue]:
    """The spec without anything that looks like a secret, for `run.json`."""
    redacted: dict[str, JsonValue] = json.loads(redact(spec.model_dump_json()))
    return redacted


def _require_same(prepared: Prepared, folder: RunFolder, record: RunRecord) -> None:
    ours, theirs = prepared.fingerprint.fields, record.fields
    differences = name_differences(ours, theirs)
    if not differences:
        return
    where = folder.store.location
    if all(line.startswith("input.files:") for line in differences):
        raise SourceChanged(
            _name_changes(_list_planned(folder.read_plan(record)), _list_found(prepared)),
            where,
            "choose another output.path for the new files, or begin anew with `run --overwrite`",
        )
    raise OutputConflict(
        "this folder holds another run\n" + "\n".join(f"    {line}" for line in differences),
        where,
        "choose another output.path, make the spec what it was, or begin anew with `run --overwrite`",
    )


def _name_changes(planned: set[FileId], found: set[FileId]) -> str:
    before, now = {file.uri: file for file in planned}, {file.uri: file for file in found}
    lines = []
    for uri in sorted(before.keys() | now.keys()):
        old, new = before.get(uri), now.get(uri)
        if old == new:
            continue
        if old is None or new is None:
            lines.append(f"    {uri} is {'new' if old is None else 'gone'}")
        else:
            lines.append(f"    {uri} was {_show_file(old)}, now {_show_file(new)}")
    return "the input has changed since the run was begun\n" + "\n".join(lines[:10])


def _show_file(file: FileId) -> str:
    return f"{file.size_bytes} bytes, version {file.version}"
