"""Checks of one spec on this machine: its backend, its model and input, its memory, its artifacts."""

from __future__ import annotations

from collections.abc import Iterator

from batchneuron.backends import open_backend
from batchneuron.backends.backend import Backend
from batchneuron.backends.survey import Survey
from batchneuron.doctor.check import Check, show_count, show_gib
from batchneuron.engines import count_workers
from batchneuron.errors import BatchNeuronError, SpecError
from batchneuron.model import Model
from batchneuron.planning.prepare import prepare
from batchneuron.planning.preview import preview_run
from batchneuron.spec.sections import JobSpec


def examine_job(spec: JobSpec, survey: Survey, *, allow_remote_code: bool = False) -> tuple[Check, ...]:
    """Whether this machine can run that spec; ends with the first thing that cannot be had.

    Resolves the model (which may download it), lists the input, and samples it for the shapes. Writes
    nothing, compiles nothing, and claims no core.
    """
    checks: list[Check] = []
    try:
        checks.extend(_examine(spec, survey, allow_remote_code))
    except SpecError as error:
        checks.append(Check("spec", "problem", "; ".join(map(str, error.problems))))
    except BatchNeuronError as error:
        told = f"{error.where}: {error.what}" if error.where else error.what
        checks.append(Check("this job", "problem", told, error.hint))
    return tuple(checks)


def _examine(spec: JobSpec, survey: Survey, allow_remote_code: bool) -> Iterator[Check]:
    backend = open_backend(spec)
    yield _check_cores(spec, backend)
    if spec.backend.logical_core_size != "auto" and survey.neuron.host_core_size:
        yield _check_core_size(spec.backend.logical_core_size, survey.neuron.host_core_size)
    prepared = prepare(spec, allow_remote_code=allow_remote_code)
    model = prepared.request.model
    yield Check("model", "ok", f"{model.id}{f' at {model.commit}' if model.commit else ''}")
    inventory = prepared.inventory
    rows, files = show_count(inventory.rows, "row"), show_count(len(inventory.files), "file")
    yield Check("input", "ok", f"{rows} in {files}")
    yield _check_worker_memory(spec, backend, model, survey)
    preview = preview_run(spec, allow_remote_code=allow_remote_code)
    if preview.to_compile:
        yield _check_compiling(preview.to_compile, backend, model, survey)
    else:
        yield Check("artifacts", "ok", "all of them are in the cache")


def _check_cores(spec: JobSpec, backend: Backend) -> Check:
    facts, cores = backend.facts, backend.list_cores()
    told = f"{facts.kind} {facts.precision} on {facts.target}, {show_count(len(cores), 'core')}"
    wished = spec.backend.workers
    if wished != "auto" and wished > len(cores):
        return Check("backend", "warning", f"{told} for {wished} workers", "set backend.workers: auto")
    return Check("backend", "ok", told)


def _check_core_size(asked: int, host: str) -> Check:
    if str(asked) == host:
        return Check("core size", "ok", f"{asked}, as the host is set")
    told = f"backend.logical_core_size is {asked}, and the host is set to {host}"
    return Check("core size", "warning", told, "leave it out, or change /opt/aws/neuron/logical_nc_config")


def _check_worker_memory(spec: JobSpec, backend: Backend, model: Model, survey: Survey) -> Check:
    """Memory of all workers together: as many as fit with `auto`, else as many as are asked for."""
    each = backend.memory_per_worker_bytes(model)
    wished = spec.backend.workers
    workers = max(1, count_workers(backend, model) if wished == "auto" else wished)
    told = f"{workers} x {show_gib(each)} of {show_gib(survey.memory_bytes)}"
    if workers * each > survey.memory_bytes:
        fit = survey.memory_bytes // each
        fix = f"set backend.workers: {fit}" if fit else "take a machine with more memory"
        return Check("worker memory", "warning" if fit else "problem", told, fix)
    idle = len(backend.list_cores()) - workers
    if wished == "auto" and idle > 0:
        fix = "take a machine with more memory per core"
        return Check("worker memory", "warning", f"{told}; {idle} cores stay idle for want of it", fix)
    return Check("worker memory", "ok", told)


def _check_compiling(missing: int, backend: Backend, model: Model, survey: Survey) -> Check:
    told = f"{missing} to be compiled"
    needs = backend.compile_needs(model)
    if needs is not None and needs.memory_bytes > survey.memory_bytes:
        told = f"{told}, which takes {show_gib(needs.memory_bytes)} of {show_gib(survey.memory_bytes)}"
        fix = "compile on a larger machine (batchneuron compile), and share backend.artifacts"
        return Check("artifacts", "problem", told, fix)
    return Check("artifacts", "ok", told)
