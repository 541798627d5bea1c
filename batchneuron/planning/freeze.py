"""Freeze: all that can be settled of a job before its runners start, put beside what will be its output.

The runners of an array then agree by construction: they read one spec, in which nothing moves, and take one
plan. What only their own machine can tell, the versions of its stack and a precision that holds, the first of
them settles when it opens the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from batchneuron.errors import OutputConflict, Problem, SpecError
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import LEDGER, plan_name, spec_name
from batchneuron.ledger.run_record import RunRecord
from batchneuron.open_run import redact_spec
from batchneuron.planning.fingerprint import name_differences
from batchneuron.planning.plan import Plan, plan_to_json
from batchneuron.planning.prepare import Prepared, make_plan, prepare
from batchneuron.spec.sections import JobSpec
from batchneuron.stores import open_store

_S3 = "s3://"
# What only the machine that runs it can say.
_SETTLED_THERE = ("backend", "versions")


@dataclass(frozen=True, slots=True)
class Frozen:
    """A job that any number of runners can be started with."""

    name: str
    output: str
    spec: str
    """Where the frozen spec is."""
    plan: str
    """The plan's file, in the output's ledger."""
    rows: int
    shards: int
    shards_done: int
    """By an earlier submission, or by hand."""
    is_finished: bool
    shapes: tuple[str, ...]
    notes: tuple[str, ...]
    """What the other machines must have, or will do more often than they need."""

    @property
    def shards_left(self) -> int:
        """Those that are to be done."""
        return self.shards - self.shards_done


def freeze_job(spec: JobSpec, *, allow_remote_code: bool = False, dry_run: bool = False) -> Frozen:
    """Settle a job that other machines will do, and write its spec and its plan; the run is not claimed.

    Args:
        spec: the job; its backend says what kind of machine will do it.
        allow_remote_code: let a model whose commit the spec pins run its own code.
        dry_run: write nothing.

    Raises:
        SpecError: it reads or writes what other machines cannot see.
        OutputConflict: the folder holds another run.
        OutputUnwritable: the folder cannot be written.
        BatchNeuronError: what `run` would raise before its first row.
    """
    prepared = prepare(spec, allow_remote_code=allow_remote_code, elsewhere=True)
    _require_reachable(prepared)
    folder = RunFolder(open_store(spec.output.path))
    record = folder.read_run()
    if record is not None:
        _require_same(prepared, folder, record)
    plan = make_plan(prepared) if record is None else folder.read_plan(record)
    text = _dump(_settle(prepared))
    if dry_run:
        names = spec_name(text), plan_name(plan_to_json(plan))
    else:
        folder.store.verify(0)
        names = folder.freeze(plan, text)
    return _describe(prepared, folder, plan, names, record)


def _require_reachable(prepared: Prepared) -> None:
    output, problems = prepared.spec.output.path, []
    if not output.startswith(_S3):
        what = f"is '{output}', on this machine; the runners share no disk"
        problems.append(Problem("spec", "output.path", what, "write to s3://bucket/prefix"))
    uris = [file.file.uri.removeprefix("datasets:") for file in prepared.inventory.files]
    local = next((uri for uri in uris if uri.startswith("/")), None)
    if local is not None:
        what = f"has '{local}', on this machine; the runners share no disk"
        problems.append(Problem("spec", "input.path", what, "read from s3:// or from the hub"))
    if problems:
        raise SpecError(tuple(problems))


def _list_notes(prepared: Prepared) -> tuple[str, ...]:
    backend, notes = prepared.spec.backend, []
    if prepared.request.model.commit is None:
        notes.append(f"model.id is a folder: the image must have {prepared.request.model.id} too")
    if backend.artifacts_lock is not None:
        notes.append(f"backend.artifacts_lock is a file: the image must have {backend.artifacts_lock} too")
    if prepared.backend.facts.compiles_per_shape and not (backend.artifacts or "").startswith(_S3):
        notes.append("each runner compiles for itself: backend.artifacts: s3://… lets them share programs")
    return tuple(notes)


def _settle(prepared: Prepared) -> JobSpec:
    """The spec with the model's commit for its revision, and its id where the task's default was meant."""
    spec, model = prepared.spec, prepared.request.model
    settled = spec.model.model_copy(update={"id": model.id, "revision": model.commit or spec.model.revision})
    output = spec.output.model_copy(update={"path": open_store(spec.output.path).location})
    return spec.model_copy(update={"model": settled, "output": output})


def _dump(spec: JobSpec) -> bytes:
    """JSON, which is YAML too, without anything that looks like a secret."""
    return json.dumps(redact_spec(spec), indent=2, ensure_ascii=False).encode()


def _describe(
    prepared: Prepared, folder: RunFolder, plan: Plan, names: tuple[str, str], record: RunRecord | None
) -> Frozen:
    """`names`: of the spec's file and the plan's."""
    where = folder.store.location
    return Frozen(
        name=prepared.spec.name or prepared.spec.task,
        output=where,
        spec=f"{where}/{LEDGER}/{names[0]}",
        plan=names[1],
        rows=plan.rows,
        shards=len(plan.shards),
        shards_done=len(folder.list_committed(record)) if record is not None else 0,
        is_finished=record is not None and folder.read_manifest(record) is not None,
        shapes=tuple(str(shape) for shape in plan.ladder.shapes),
        notes=_list_notes(prepared),
    )


def _require_same(prepared: Prepared, folder: RunFolder, record: RunRecord) -> None:
    differences = name_differences(_strip(prepared.fingerprint.fields), _strip(record.fields))
    if differences:
        raise OutputConflict(
            "this folder holds another run\n" + "\n".join(f"    {line}" for line in differences),
            folder.store.location,
            "choose another output.path, or make the spec and the input what they were",
        )


def _strip(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: value for name, value in fields.items() if name not in _SETTLED_THERE}
