"""Run: the whole job, from a spec to a manifest. What `batchneuron run` and `run_job` do."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from batchneuron.engines import Cluster, open_cluster_engine, open_engine
from batchneuron.engines.engine import Engine
from batchneuron.errors import DiskFailed, Incomplete, OutputUnwritable, Problem, SpecError, TooManyRejected
from batchneuron.ledger.finish import finish_run
from batchneuron.ledger.lease import Claims
from batchneuron.ledger.leftover import delete_old_parts
from batchneuron.ledger.run_record import Progress
from batchneuron.open_run import Opened, open_run
from batchneuron.planning.prepare import prepare
from batchneuron.sources.source import SkippedFile
from batchneuron.spec.parse import load_spec, parse_spec
from batchneuron.spec.sections import ErrorsSpec, JobSpec
from batchneuron.stores import read_object
from batchneuron.tasks import INPUTS, OPTIONS
from batchneuron.watch import Watch
from batchneuron.workers.events import Event, PartDone, RowIsolated, WorkerLost
from batchneuron.workers.ticket import Ticket
from batchneuron.workers.work_order import WorkOrder

_PROGRESS_EVERY_S = 5.0
_S3 = "s3://"


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
    done_twice: int = 0
    """Parts of `done_now` that another runner had committed first."""
    throttled: int = 0
    """Answers of the store that asked this call's workers to slow down."""
    restarts: int = 0
    """Workers that died, or were ended for a failure, in the middle of their work."""
    isolated: tuple[RowIsolated, ...] = ()
    """Rows that this call found to kill workers; they are among the rejected."""
    skipped: tuple[SkippedFile, ...] = ()
    """Damaged input files that the run did without; their rows are not among `rows`."""


def load_job(path: Path | str, overrides: Sequence[str] = ()) -> JobSpec:
    """The job that a YAML file describes, here or in a bucket, with `key=value` overrides.

    Raises:
        SpecError: with every problem of the file at once.
        OutputUnwritable: the bucket cannot be read.
    """
    if not str(path).startswith(_S3):
        return load_spec(Path(path), overrides, OPTIONS, INPUTS)
    content = read_object(str(path))
    if content is None:
        raise SpecError((Problem(str(path), "", "there is no such object"),))
    return parse_spec(content.decode("utf-8-sig", "replace"), str(path), overrides, OPTIONS, INPUTS)


def run_job(
    spec: JobSpec,
    *,
    allow_remote_code: bool = False,
    overwrite: bool = False,
    watch: Watch | None = None,
    ticket: Ticket | None = None,
    cluster: Cluster | None = None,
) -> Summary:
    """Do what is missing of a job and write its manifest; others may do the same in the same folder.

    Args:
        spec: the job.
        allow_remote_code: let a model whose commit the spec pins run its own code.
        overwrite: begin anew where the folder holds another run, or this one and finished.
        watch: is told what happens, and asked whether to go on.
        ticket: what a runner is told that was started together with others; None: it was not.
        cluster: a Ray cluster to do the shards on; None: this machine.

    Raises:
        OutputConflict: the folder holds another run.
        ParityError: a program does not agree with the reference; nothing is written.
        TooManyRejected: the error budget is spent.
        Incomplete: stopped early; the same call takes it up again.
        BatchNeuronError: whatever else stopped the work; what was committed stays.
    """
    watch, ticket = watch or Watch(), ticket or Ticket()
    started = time.perf_counter()
    prepared = replace(prepare(spec, allow_remote_code=allow_remote_code), cluster=cluster)
    opened = open_run(prepared, watch, overwrite=overwrite, frozen=ticket.plan)
    watch.on_open(opened)
    ledger = _Ledger(opened, watch)
    if opened.missing:
        with Claims(opened.folder, opened.order.record, ticket=ticket) as claims:
            _do_missing(opened, ledger, claims, _open_engine(opened))
    return _finish(opened, ledger, started)


def _open_engine(opened: Opened) -> Engine:
    backend, cluster = opened.prepared.backend, opened.prepared.cluster
    if cluster is None:
        return open_engine(opened.workers, backend)
    return open_cluster_engine(cluster, backend, opened.prepared.spec.backend.workers)


def _do_missing(opened: Opened, ledger: _Ledger, claims: Claims, engine: Engine) -> None:
    def listen(event: Event) -> None:
        if isinstance(event, PartDone):
            claims.note(event)
        ledger.record(event)

    watch = ledger.watch
    shards = watch.sort_shards(opened.missing)
    try:
        engine.run(opened.order, shards, listen, lambda: watch.is_stopped() or claims.is_overwritten, claims)
    finally:
        ledger.save()


@dataclass(slots=True)
class _Ledger:
    """Counts what workers report, saves it now and then, and holds the error budget."""

    opened: Opened
    watch: Watch
    done: dict[int, PartDone] = field(default_factory=dict)
    restarts: int = 0
    isolated: list[RowIsolated] = field(default_factory=list)
    rejected: int = 0
    """In the parts of `done`."""
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
        if isinstance(event, WorkerLost):
            self.restarts += 1
        if isinstance(event, RowIsolated):
            self.isolated.append(event)
            self._check_budget()
        if isinstance(event, PartDone):
            before = self.done.get(event.shard)
            self.rejected += event.rejected - (before.rejected if before is not None else 0)
            self.done[event.shard] = event
            if time.perf_counter() - self.saved > self.pause_s:
                self.save()
            self._check_budget()

    def save(self) -> None:
        """Write this runner's progress, spending no more than a hundredth of the time on it."""
        if not self.done and not self.restarts:
            return
        now = time.perf_counter()
        parts = tuple(self.done[index] for index in sorted(self.done))
        with contextlib.suppress(
            OutputUnwritable, DiskFailed
        ):  # advisory; a part that cannot be written says so
            self.opened.folder.write_progress(
                self.opened.order.record,
                Progress(self.slot, now - self.started, parts, self.restarts, len(self.isolated)),
            )
        self.saved = time.perf_counter()
        self.pause_s = max(_PROGRESS_EVERY_S, 100 * (self.saved - now))

    def reports(self) -> dict[int, PartDone | None]:
        """What a runner reports of a part that it made; None: several do, it was lost and made again."""
        runners = self.opened.folder.read_progress(self.opened.order.record)
        told = [part for progress in runners for part in progress.parts if part.created]
        counts = Counter(part.shard for part in told)
        return {part.shard: part if counts[part.shard] == 1 else None for part in told}

    def _check_budget(self) -> None:
        rejected = self.rejected + sum(found.shard not in self.done for found in self.isolated)
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
    parts = folder.list_parts(record)
    missing = len(plan.shards) - len(parts)
    folder.require_current(record)  # after the listing: who overwrites a run removes its parts
    if missing:
        raise Incomplete(f"{missing} of {len(plan.shards)} shards are not done", folder.store.location)
    manifest = None if opened.missing else folder.read_manifest(record)
    if manifest is None:
        manifest = finish_run(folder, record, plan, ledger.reports(), parts)
        if record.generation > 1:
            with contextlib.suppress(
                OutputUnwritable, DiskFailed
            ):  # not allowed to delete: `gc` is left to do it
                delete_old_parts(folder)
    require_budget(manifest.rejected, plan.rows, opened.prepared.spec.errors, opened.order)
    return Summary(
        output=folder.store.location,
        rows=manifest.rows,
        rejected=manifest.rejected,
        shards=len(plan.shards),
        done_now=tuple(ledger.done.values()),
        elapsed_s=time.perf_counter() - started,
        done_twice=sum(not part.created for part in ledger.done.values()),
        throttled=sum(part.throttled for part in ledger.done.values()),
        restarts=ledger.restarts,
        isolated=tuple(ledger.isolated),
        skipped=plan.skipped,
    )
