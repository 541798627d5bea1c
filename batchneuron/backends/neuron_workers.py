"""One worker per logical NeuronCore: its CPUs, and its whole environment.

A worker sees exactly one core, so that it cannot claim another's: a process that says nothing claims all
of them (SDK: neuron-runtime/guides/configuration-guide).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from batchneuron.backends.backend import Core
from batchneuron.backends.neuron_devices import (
    LOGICAL_CORE_SIZE,
    NUM_CORES,
    VISIBLE_CORES,
    Devices,
    NeuronCore,
)

# Said for the user where the user has not: these change what is told, not what is computed.
_UNLESS_SET = {
    "NEURON_RT_LOG_LEVEL": "ERROR",
    "NEURON_RT_LOG_LOCATION": "console",
    "TRANSFORMERS_VERBOSITY": "error",
}
_ALWAYS = {
    NUM_CORES: "1",
    # Artifacts come from shared stores: the runtime checks each NEFF's own sum as well.
    "NEURON_RT_VALIDATE_HASH": "true",
    # A row with NaN is rejected by itself (execute.py); the runtime must not fail its whole batch.
    "NEURON_FAIL_ON_NAN": "0",
    "NEURON_RT_NUMERICAL_ERRORS_VERBOSITY": "none",
    # The worker never forks after its start, so that the tokenizer may use all its CPUs.
    "TOKENIZERS_PARALLELISM": "true",
}


def make_workers(devices: Devices, allowed: Sequence[int], environ: Mapping[str, str]) -> tuple[Core, ...]:
    """A worker's core for each NeuronCore that is ours.

    Args:
        devices: this machine's.
        allowed: CPUs that this process may use.
        environ: this process's variables, some of which a user may have set.
    """
    shares = share_cpus(devices.cores, allowed)
    return tuple(
        Core(core.index, cpus, _make_environment(core, cpus, devices, environ), is_exclusive=True)
        for core, cpus in zip(devices.cores, shares, strict=True)
    )


def share_cpus(cores: Sequence[NeuronCore], allowed: Sequence[int]) -> list[tuple[int, ...]]:
    """CPUs of each core: an equal share of those next to its device, or of all where that is not known.

    Every n-th CPU goes to one core, which keeps the two threads of a physical CPU together: their numbers
    differ by half the machine's.
    """
    near = [tuple(cpu for cpu in allowed if cpu in set(core.cpus)) or tuple(allowed) for core in cores]
    places = [near[:i].count(group) for i, group in enumerate(near)]
    return [
        group[place :: near.count(group)] or (group[place % len(group)],)
        for group, place in zip(near, places, strict=True)
    ]


def tool_path(environ: Mapping[str, str]) -> str:
    """PATH with this interpreter's folder before it: torch_neuronx looks there for its tools by name.

    An environment that is used without being activated is not on PATH (libneuronpjrt-path, neuronx-cc).
    """
    own = str(Path(sys.executable).parent)
    before = environ.get("PATH", os.defpath)
    return before if own in before.split(os.pathsep) else f"{own}{os.pathsep}{before}"


@contextlib.contextmanager
def borrow_environment(environment: Mapping[str, str]) -> Iterator[None]:
    """This process's variables as they are given, and as they were when it is over."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _make_environment(
    core: NeuronCore, cpus: Sequence[int], devices: Devices, environ: Mapping[str, str]
) -> dict[str, str]:
    return {
        **{name: environ.get(name, value) for name, value in _UNLESS_SET.items()},
        **_ALWAYS,
        **logical_cores_environment(devices),
        VISIBLE_CORES: str(core.index),
        "NEURON_PROCESS_TAG": f"batchneuron-core-{core.index}",
        "OMP_NUM_THREADS": str(len(cpus)),
        "RAYON_NUM_THREADS": str(len(cpus)),
        "PATH": tool_path(environ),
    }


def logical_cores_environment(devices: Devices) -> dict[str, str]:
    """What tells runtime and compiler of logical cores; nothing where a chip has none."""
    return {LOGICAL_CORE_SIZE: str(devices.logical_core_size)} if devices.family in {"trn2", "trn3"} else {}
