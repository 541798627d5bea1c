"""Compile the programs of a job ahead of its run, on any host: what `batchneuron compile` does."""

from __future__ import annotations

from batchneuron.artifacts import default_cache, list_artifacts
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.open_run import find_begun
from batchneuron.planning.prepare import make_plan, prepare
from batchneuron.programs.compile import Compiled, CompileWatch, Sharing, compile_missing
from batchneuron.spec.sections import JobSpec
from batchneuron.stores import open_store


def compile_job(
    spec: JobSpec,
    *,
    allow_remote_code: bool = False,
    watch: CompileWatch | None = None,
    sharing: Sharing | None = None,
    jobs: int | None = None,
) -> Compiled:
    """The artifacts of all shapes of a job, those of the run if it was begun; no part is written.

    Raises:
        BatchNeuronError: what `run` would raise before its first row.
    """
    folder = RunFolder(open_store(spec.output.path))
    prepared, record = find_begun(prepare(spec, allow_remote_code=allow_remote_code), folder)
    plan = make_plan(prepared) if record is None else folder.read_plan(record)
    artifacts = list_artifacts(prepared.backend, prepared.request, plan.ladder, default_cache())
    return compile_missing(prepared.backend, prepared.request, artifacts, watch, sharing, jobs)
