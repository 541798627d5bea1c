"""Run: the whole job, from a spec to a manifest. What `batchneuron run` and `run_job` do."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from batchneuron.artifacts import compile_artifact, list_missing
from batchneuron.calibrate import calibrate
from batchneuron.engines import count_workers, open_engine
from batchneuron.errors import Incomplete, OutputConflict, SourceChanged, TooManyRejected
from batchneuron.events import Event, PartDone
from batchneuron.fingerprint import name_differences
from batchneuron.plan import Plan, Shard
from batchneuron.prepare import Prepared, make_order, make_plan, prepare
from batchneuron.run_folder import Progress, RunFolder, RunRecord, draft_run
from batchneuron.secrets import redact
from batchneuron.sources.source import FileId
from batchneuron.spec.parse import load_spec
from batchneuron.spec.sections import ErrorsSpec, JobSpec
from batchneuron.stores import open_store
from batchneuron.tasks import OPTIONS, find_kind
from batchneuron.work_order import WorkOrder

_PROGRESS_EVERY_S = 5.0


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


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did, and what its output now holds."""

    output: str
    rows: int
    rejected: int
    shards: int
    done_now: tuple[PartDone, ...]
    """Parts made by this call; fewer than `shards` when it resumed a run."""
    elapsed_s: float
    """Of this call, workers' start included."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a caller follows a run, and stops it."""

    on_open: Callable[[Opened], None] = lambda _: None
    on_event: Callable[[Event], None] = lambda _: None
    is_stopped: Callable[[], bool] = lambda: False
    sort_shards: Callable[[tuple[Shard, ...]], Sequence[Shard]] = lambda shards: shards
    """The order to do missing shards in; the output does not depend on it."""


def load_job(path: Path | str, overrides: Sequence[str] = ()) -> JobSpec:
    """The job that a YAML file describes, with `key=value` overrides.

    Raises:
        SpecError: with every problem of the file at once.
    """
    return load_spec(Path(path), overrides, OPTIONS)


def run_job(spec: JobSpec, *, allow_remote_code: bool = False, watch: Watch | None = None) -> Summary:
    """Do what is missing of a job and write its manifest.

    Raises:
        OutputConflict: the folder holds another run.
        TooManyRejected: the error budget is spent.
        Incomplete: stopped early; the same call takes it up again.
        BatchNeuronError: whatever else stopped the work; what was committed stays.
    """
    watch = watch or Watch()
    started = time.perf_counter()
    opened = open_run(prepare(spec, allow_remote_code=allow_remote_code))
    watch.on_open(opened)
    ledger = _Ledger(opened, watch)
    if opened.missing:
        _compile(opened.prepared, opened.order)
        engine = open_engine(opened.workers, opened.prepared.backend)
        try:
            engine.run(opened.order, watch.sort_shards(opened.missing), ledger.record, watch.is_stopped)
        finally:
            ledger.save()
    return _finish(opened, ledger, started)


def open_run(prepared: Prepared) -> Opened:
    """Claim the run folder, or find that this very job was begun there.

    Raises:
        OutputConflict: it belongs to another run; the message names what differs.
        SourceChanged: an input file is not the one the run was begun with.
    """
    folder = RunFolder(open_store(prepared.spec.output.path))
    record = folder.read_run()
    if record is None:
        spec = _redact_spec(prepared.spec)
        plan = _calibrate(prepared, make_plan(prepared), spec)
        record = folder.create_run(prepared.fingerprint, plan, spec)
    _require_same(prepared, folder, record)
    folder.store.prepare()
    plan = folder.read_plan(record)
    committed = folder.list_committed(record)
    missing = tuple(shard for shard in plan.shards if shard.index not in committed)
    wished = prepared.spec.backend.workers
    workers = count_workers(prepared.backend, prepared.request.model) if wished == "auto" else wished
    order = make_order(prepared, plan, record)
    return Opened(prepared, plan, folder, order, missing, min(workers, max(1, len(missing))))


def _calibrate(prepared: Prepared, plan: Plan, spec: dict[str, JsonValue]) -> Plan:
    """The plan, with what the task has to know of the data where it quantises."""
    kind = find_kind(prepared.spec.task)
    if not kind.needs_calibration(kind.options.model_validate(dict(prepared.request.options))):
        return plan
    order = make_order(prepared, plan, draft_run(prepared.fingerprint, plan, spec))
    _compile(prepared, order)
    core = None if prepared.spec.backend.workers == 0 else prepared.backend.list_cores()[0]
    return replace(plan, calibration=calibrate(order, plan.shards, core))


def _redact_spec(spec: JobSpec) -> dict[str, JsonValue]:
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
        planned = {piece.file for shard in folder.read_plan(record).shards for piece in shard.slices}
        raise SourceChanged(
            _name_changes(planned, {file.file for file in prepared.inventory.files if file.rows}),
            where,
            "the run was begun with other files; write the new ones to another output.path",
        )
    raise OutputConflict(
        "this folder holds another run\n" + "\n".join(f"    {line}" for line in differences),
        where,
        "choose another output.path, or make the spec what it was",
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


def _compile(prepared: Prepared, order: WorkOrder) -> None:
    for artifact in list_missing(order.artifacts):
        compile_artifact(prepared.backend, prepared.request, artifact)


@dataclass(slots=True)
class _Ledger:
    """Counts what workers report, saves it now and then, and holds the error budget."""

    opened: Opened
    watch: Watch
    done: dict[int, PartDone] = field(default_factory=dict)
    slot: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    started: float = field(default_factory=time.perf_counter)
    saved: float = 0.0
    pause_s: float = 0.0

    def record(self, event: Event) -> None:
        """Take note of an event.

        Raises:
            TooManyRejected: one rejected row too many.
        """
        self.watch.on_event(event)
        if isinstance(event, PartDone):
            self.done[event.shard] = event
            if time.perf_counter() - self.saved > self.pause_s:
                self.save()
            self._check_budget()

    def save(self) -> None:
        """Write this runner's progress, spending no more than a hundredth of the time on it."""
        if not self.done:
            return
        now = time.perf_counter()
        parts = tuple(self.done[index] for index in sorted(self.done))
        self.opened.folder.write_progress(Progress(self.slot, now - self.started, parts))
        self.saved = time.perf_counter()
        self.pause_s = max(_PROGRESS_EVERY_S, 100 * (self.saved - now))

    def reports(self) -> dict[int, PartDone]:
        """Parts that one runner alone reports as its own; a part that was lost and made again has two."""
        told = [part for progress in self.opened.folder.read_progress() for part in progress.parts]
        counts = Counter(part.shard for part in told if part.created)
        return {part.shard: part for part in told if part.created and counts[part.shard] == 1}

    def _check_budget(self) -> None:
        rejected = sum(part.rejected for part in self.done.values())
        require_budget(rejected, self.opened.plan.rows, self.opened.prepared.spec.errors, self.opened.order)


def require_budget(rejected: int, rows: int, errors: ErrorsSpec, order: WorkOrder) -> None:
    """Hold the rejected rows against `errors.max_rejected`.

    Raises:
        TooManyRejected: there are more.
    """
    wished = errors.max_rejected
    allowed = int(wished * rows) if wished < 1 else int(wished)
    if rejected > allowed:
        path = order.spec.output.path
        raise TooManyRejected(
            f"{rejected} of {rows} rows were rejected, and errors.max_rejected: {wished} allows {allowed}",
            path,
            f"`batchneuron errors {path}` lists them; mend the input, or raise errors.max_rejected",
        )


def _finish(opened: Opened, ledger: _Ledger, started: float) -> Summary:
    folder, plan, record = opened.folder, opened.plan, opened.order.record
    missing = len(plan.shards) - len(folder.list_committed(record))
    if missing:
        raise Incomplete(f"{missing} of {len(plan.shards)} shards are not done", folder.store.location)
    manifest = None if ledger.done else folder.read_manifest()
    if manifest is None:
        manifest = folder.write_manifest(record, plan, ledger.reports())
    require_budget(manifest.rejected, plan.rows, opened.prepared.spec.errors, opened.order)
    return Summary(
        output=folder.store.location,
        rows=manifest.rows,
        rejected=manifest.rejected,
        shards=len(plan.shards),
        done_now=tuple(ledger.done.values()),
        elapsed_s=time.perf_counter() - started,
    )
