"""Checks that every machine gets: Python, memory, disks, the hub, the CPU."""

from __future__ import annotations

from batchneuron.backends.survey import Disk, Survey
from batchneuron.doctor.check import Check, Judge, show_count, show_gib

_PYTHONS = ((3, 11), (3, 13))
_LEAST_MEMORY_BYTES = 2 << 30  # one worker's interpreter and libraries, and a small model
_LEAST_FILES = 1024
# A process for every core, pipes to each, and a compiler that starts processes of its own (SDK:
# torch-neuronx bucketing guide, "Too Many Open Files").
_LEAST_FILES_NEURON = 65_535
_CACHE_BYTES = 2 << 30
_CACHE_BYTES_NEURON = 10 << 30  # every shape's artifact holds the weights again
_SCRATCH_BYTES = 1 << 30
_WHERE = "in the folder of batchneuron's repository"


def check_python(survey: Survey) -> Check:
    """The interpreter's version."""
    told = f"{survey.python[0]}.{survey.python[1]} on {survey.system}"
    if not _PYTHONS[0] <= survey.python <= _PYTHONS[1]:
        return Check("python", "problem", f"{told}; 3.11, 3.12 or 3.13 is needed", "python3.12 -m venv .venv")
    if survey.stack.kind == "native" and survey.python < (3, 12):
        return Check(
            "python",
            "warning",
            f"{told}; TorchNeuron is published for 3.12 and later",
            "python3.12 -m venv .venv",
        )
    return Check("python", "ok", told)


def check_torch(survey: Survey) -> Check:
    """The libraries that load and run models on the host."""
    names = ("torch", "transformers")
    missing = [name for name in names if survey.versions.get(name) is None]
    if missing:
        return Check("libraries", "problem", f"no {' and no '.join(missing)}", f"pip install . {_WHERE}")
    return Check("libraries", "ok", ", ".join(f"{name} {survey.versions[name]}" for name in names))


def check_cpu(survey: Survey) -> Check:
    """CPUs, and whether bfloat16 is worth anything on them."""
    precision = "bfloat16 in its own units" if survey.has_bfloat16 else "no bfloat16 units, so float32"
    return Check("cpu", "ok", f"{survey.cpus} x {survey.cpu_target}; {precision}")


def check_openvino(survey: Survey) -> Check | None:
    """The fast CPU backend; of no interest where there are NeuronCores."""
    if survey.neuron.everything:
        return None
    found = survey.versions.get("openvino")
    if found is None:
        return Check(
            "openvino",
            "warning",
            "not installed, so PyTorch runs jobs on the CPU, slower",
            f"pip install '.[cpu]' {_WHERE}",
        )
    return Check("openvino", "ok", found)


def check_memory(survey: Survey) -> Check:
    """Host memory that can be had now."""
    told = f"{show_gib(survey.memory_bytes)} available"
    if survey.memory_bytes < _LEAST_MEMORY_BYTES:
        fix = f"free some; one worker takes {show_gib(_LEAST_MEMORY_BYTES)} or more"
        return Check("memory", "warning", told, fix)
    return Check("memory", "ok", told)


def check_files(survey: Survey) -> Check:
    """How many files a process may have open."""
    least = _LEAST_FILES_NEURON if survey.neuron.everything else _LEAST_FILES
    told = f"{survey.open_files:,} at once"
    # -1 is "unlimited".
    if 0 <= survey.open_files < least:
        return Check("open files", "warning", told, f"ulimit -n {least}")
    return Check("open files", "ok", told)


def check_cache(survey: Survey) -> Check:
    """Where artifacts are kept."""
    least = _CACHE_BYTES_NEURON if survey.neuron.everything or survey.stack.has_compiler else _CACHE_BYTES
    return _judge_disk("artifact cache", survey.cache, least, "export XDG_CACHE_HOME=/a/larger/disk")


def check_scratch(survey: Survey) -> Check:
    """Where compilers and libraries put what is temporary."""
    return _judge_disk("scratch", survey.scratch, _SCRATCH_BYTES, "export TMPDIR=/a/larger/disk")


def check_hub(survey: Survey) -> Check:
    """How models can be had: a token is looked for, never at."""
    hub = survey.hub
    cached = f"{show_count(hub.cached_models, 'model')} in the hub's cache"
    if hub.is_offline:
        told = f"offline (HF_HUB_OFFLINE): folders, and {cached}"
        if hub.cached_models:
            return Check("models", "ok", told)
        return Check("models", "warning", told, "name a folder in model.id, or unset HF_HUB_OFFLINE")
    token = "a token is there" if hub.has_token else "no token: public models only"
    return Check("models", "ok", f"{token}; {cached}")


def _judge_disk(name: str, disk: Disk, least_bytes: int, fix: str) -> Check:
    told = f"{show_gib(disk.free_bytes)} free in {disk.path}"
    if not disk.is_writable:
        return Check(name, "problem", f"{disk.path} cannot be written by this user", fix)
    if disk.free_bytes < least_bytes:
        return Check(name, "warning", f"{told}; {show_gib(least_bytes)} are soon used", fix)
    return Check(name, "ok", told)


CHECKS: tuple[Judge, ...] = (
    check_python,
    check_torch,
    check_cpu,
    check_openvino,
    check_memory,
    check_files,
    check_cache,
    check_scratch,
    check_hub,
)
