"""What a run would do, told without writing anything: `plan`, and `run --dry-run`."""

from __future__ import annotations

from dataclasses import dataclass

from batchneuron.artifacts import default_cache, list_artifacts, list_missing
from batchneuron.artifacts.exchange import Sharing, list_shared_keys
from batchneuron.engines import count_workers
from batchneuron.input_notes import list_notes
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.open_run import find_begun
from batchneuron.planning.forecast import Forecast
from batchneuron.planning.prepare import make_plan, prepare
from batchneuron.programs.agreement import Parity
from batchneuron.programs.parity import read_parity
from batchneuron.spec.sections import JobSpec
from batchneuron.stores import open_store


@dataclass(frozen=True, slots=True)
class Preview:
    """A job as it is planned."""

    name: str
    task: str
    model: str
    commit: str | None
    backend: str
    rows: int
    files: int
    shards: int
    shards_done: int
    shapes: tuple[str, ...]
    tokens_per_row: float
    forecast: Forecast
    to_compile: int
    """Programs that neither the local cache nor the shared store has."""
    parity: Parity | None
    """How the programs agree with the reference; None: they have not been held against it."""
    workers: int
    notes: tuple[str, ...]
    """What is not as it seems in the input: files left out, columns that differ from file to file."""
    renamed: dict[str, str]
    """Carried columns under another name than in the input: output name ← column."""
    output: str


def preview_run(spec: JobSpec, *, allow_remote_code: bool = False) -> Preview:
    """What `run` would do now; raises what `run` would raise before its first row."""
    folder = RunFolder(open_store(spec.output.path))
    prepared, record = find_begun(prepare(spec, allow_remote_code=allow_remote_code), folder)
    plan = make_plan(prepared) if record is None else folder.read_plan(record)
    artifacts = list_artifacts(prepared.backend, prepared.request, plan.ladder, default_cache())
    facts, model = prepared.backend.facts, prepared.request.model
    missing = {artifact.key for artifact in list_missing(artifacts)}
    if missing:
        missing -= list_shared_keys(Sharing(spec.backend.artifacts, spec.backend.artifacts_lock))
    wished = spec.backend.workers
    return Preview(
        name=spec.name or "",
        task=spec.task,
        model=model.id,
        commit=model.commit,
        backend=f"{facts.kind} {facts.precision} on {facts.target}",
        rows=plan.rows,
        files=len(prepared.inventory.files),
        shards=len(plan.shards),
        shards_done=0 if record is None else len(folder.list_committed(record)),
        shapes=tuple(str(shape) for shape in plan.ladder.shapes),
        tokens_per_row=plan.tokens_per_row,
        forecast=plan.forecast,
        to_compile=len(missing),
        parity=read_parity(artifacts, facts, spec.backend) if record is None else record.parity,
        workers=count_workers(prepared.backend, model) if wished == "auto" else wished,
        notes=list_notes(prepared.inventory, prepared.columns.needed(prepared.inventory.schema)),
        renamed={name: column for name, column in prepared.columns.keep.items() if name != column},
        output=folder.store.location,
    )
