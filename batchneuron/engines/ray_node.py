"""What an actor finds on its node: whether all is as the driver takes it to be, its core, its pulse."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from batchneuron import __version__
from batchneuron.backends import open_backend
from batchneuron.backends.backend import BackendFacts, Core
from batchneuron.errors import BackendError, OutputUnfit, SourceChanged, SourceNotFound
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.planning.fingerprint import name_differences
from batchneuron.sources.location import verify_unchanged
from batchneuron.sources.source import FileId
from batchneuron.stores import open_store
from batchneuron.tasks import find_kind
from batchneuron.user_cache import user_cache
from batchneuron.workers.pulse import PULSE_BYTES, Place, Pulse
from batchneuron.workers.work_order import WorkOrder

NEURON_CORES = "neuron_cores"
"""Ray's own resource (Ray docs: Accelerator support); it numbers them and shows each actor its own alone."""
_SHARED = "a node reads and writes the files themselves: put them on s3:// or on a disk that all nodes share"
_THREADS = "_NUM_THREADS"


def describe_node(task: str, facts: BackendFacts) -> dict[str, JsonValue]:
    """All of this machine that can change a prediction: equal on the driver and on every node."""
    return {
        "batchneuron": __version__,
        "backend": {"kind": facts.kind, "target": facts.target, "precision": facts.precision},
        "compiler_args": dict(facts.compiler_args),
        "versions": {**facts.versions, **{name: version(name) for name in find_kind(task).libraries}},
    }


def require_same(order: WorkOrder, expected: Mapping[str, JsonValue]) -> None:
    """Hold this node against what the run was planned with.

    Raises:
        BackendError: other versions, another chip or instruction set, or no such backend here.
    """
    facts = open_backend(order.spec).facts
    found = describe_node(order.request.task, facts)
    # The programs come from the driver: a compiler that is not here has no part in them.
    absent = f"versions.{facts.missing_compiler}:"
    differences = [line for line in name_differences(found, expected, "there") if not line.startswith(absent)]
    if differences:
        raise BackendError(
            "this node differs from the machine that planned the run\n"
            + "\n".join(f"    {line}" for line in differences),
            f"node {socket.gethostname()}",
            "install the same versions on all nodes; on nodes of several kinds, name the backend's kind and "
            "target in the spec, and start the command on a machine like them",
        )


def require_run_folder(order: WorkOrder) -> None:
    """Find out whether this node sees the run folder, and clear up what dead actors left there.

    Raises:
        OutputUnfit: what is here is not the driver's.
    """
    host, record = socket.gethostname(), order.record
    folder = RunFolder(open_store(order.spec.output.path))
    found = folder.read_run()
    if found is None or found.run8 != record.run8:
        raise OutputUnfit(f"node {host} does not see this run folder", folder.store.location, _SHARED)
    folder.store.prepare(record.run8)


def require_input(probe: FileId | None) -> None:
    """Find out whether this node sees the input, of which one file stands for all.

    Raises:
        SourceNotFound: what is here is not the driver's.
    """
    if probe is None:
        return
    try:
        verify_unchanged(probe)
    except (SourceNotFound, SourceChanged) as error:
        raise SourceNotFound(
            f"node {socket.gethostname()} does not see the input as it was planned: {error.what}",
            probe.uri,
            _SHARED,
        ) from error


def choose_core(cores: Sequence[Core], units: int) -> Core:
    """This actor's core: the one that Ray has assigned, or CPUs that no other actor here has.

    Args:
        cores: the backend's, on this node.
        units: actors that the node has room for.

    Raises:
        BackendError: Ray has assigned a core that the backend does not find.
    """
    if not any(core.is_exclusive for core in cores):
        return cores[_take_seat() % len(cores)]
    import ray

    assigned = [int(text) for text in ray.get_runtime_context().get_accelerator_ids().get(NEURON_CORES, ())]
    if len(assigned) != 1:
        raise BackendError(
            f"Ray has assigned {len(assigned)} NeuronCores to this actor, and it needs one",
            f"node {socket.gethostname()}",
            f"start the node with resources={{'{NEURON_CORES}': …}}, or where `neuron-ls` is found",
        )
    own = next((core for core in cores if core.index == assigned[0]), None)
    if own is None:
        raise BackendError(
            f"Ray has assigned core {assigned[0]}, and there are {[core.index for core in cores]}",
            f"node {socket.gethostname()}",
            f"let the node's {NEURON_CORES} be the number of its NeuronCores",
        )
    return own if len(cores) > 1 else _share_cpus(own, units)


def _share_cpus(core: Core, units: int) -> Core:
    """The only core that this process sees, with its share of the CPUs: the others are not known here."""
    cpus = core.cpus[core.index % units :: units] or core.cpus[:1]
    threads = {name: str(len(cpus)) for name in core.environment if name.endswith(_THREADS)}
    return replace(core, cpus=cpus, environment={**core.environment, **threads})


def _take_seat() -> int:
    """The lowest number that no other actor on this host has; the kernel frees it when this process ends."""
    folder = user_cache() / "seats"
    folder.mkdir(parents=True, exist_ok=True)
    for seat in count():
        descriptor = os.open(folder / f"{seat}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        except OSError:  # no locks on this file system: then without order
            os.close(descriptor)
            return os.getpid()
        else:
            return seat  # the open file is the hold on it
    raise AssertionError


def open_pulse() -> tuple[str, Any]:
    """A file that outlives this process, and its memory."""
    descriptor, path = tempfile.mkstemp(prefix="batchneuron-pulse-")
    os.truncate(descriptor, PULSE_BYTES)
    cells = mmap.mmap(descriptor, PULSE_BYTES)
    os.close(descriptor)
    return path, cells


def read_pulse(path: str) -> tuple[Place, ...]:
    """What an actor of this node had in hand when it died; its file goes."""
    file = Path(path)
    try:
        places = Pulse(bytearray(file.read_bytes())).read()
    except OSError:
        return ()
    file.unlink(missing_ok=True)
    return places


def signal_process(process: int, number: int) -> None:
    """Send a signal to an actor of this node, which may be stuck in a library and take no calls."""
    os.kill(process, signal.Signals(number))
