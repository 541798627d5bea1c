"""What this machine has, as facts: the record that `devices` shows and `doctor` judges.

Reads files, versions and this process's environment; the only tool it runs is neuron-ls. Of credentials it
notes that they are there, and never what they are.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchneuron.backends.machine import available_memory_bytes, cpu_target, has_bfloat16, list_cpus
from batchneuron.backends.neuron_chips import Instance, describe_prices, find_instance
from batchneuron.backends.neuron_devices import (
    LOGICAL_CORE_SIZE,
    NUM_CORES,
    VISIBLE_CORES,
    Devices,
    NeuronCore,
    Places,
    Wishes,
    discover,
    list_nodes,
)
from batchneuron.backends.neuron_stack import Stack, find_stack, find_version
from batchneuron.backends.neuron_workers import tool_path
from batchneuron.errors import BackendError

_TOOLS = ("neuron-ls", "neuronx-cc", "libneuronpjrt-path")
_PACKAGES = ("torch", "transformers", "openvino", "torch-neuronx", "neuronx-cc")
_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class Neuron:
    """The Neuron side of a machine."""

    devices: Devices
    """What this process may use."""
    everything: tuple[NeuronCore, ...]
    """All cores, whatever the environment leaves of them."""
    found_by: str
    """What told of them: `neuron-ls` or `/dev/neuron*`; empty where there are none."""
    narrowed_by: str
    """The variable that leaves only some of them, with its value; empty: none does."""
    instance: Instance | None
    prices: str
    """Where the prices were read, and when."""
    driver: str | None
    """Version of the kernel's driver; empty where it does not tell; None: not loaded."""
    closed_nodes: tuple[str, ...]
    """Devices that this user may not read and write."""
    has_runtime: bool
    """Whether the runtime's library is where aws-neuronx-runtime-lib puts it."""
    host_core_size: str
    """What the host's file says of logical cores; empty where there is none."""
    asked_core_size: str
    """What the environment says of them; empty where it does not."""
    trouble: BackendError | None = None
    """Why the devices could not be told."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder that will be written to."""

    path: Path
    free_bytes: int
    is_writable: bool


@dataclass(frozen=True, slots=True)
class Hub:
    """How models can be had."""

    has_token: bool
    is_offline: bool
    cached_models: int


@dataclass(frozen=True, slots=True)
class Survey:
    """One machine, as this process finds it."""

    python: tuple[int, int]
    system: str
    cpus: int
    cpu_target: str
    has_bfloat16: bool
    memory_bytes: int
    """Available now."""
    open_files: int
    """The soft limit."""
    cache: Disk
    scratch: Disk
    hub: Hub
    stack: Stack
    versions: Mapping[str, str | None]
    tools: Mapping[str, str | None]
    """Where each tool was found; None where it was not."""
    neuron: Neuron


def survey_machine(cache: Path, places: Places | None = None, proc: Path = Path("/proc")) -> Survey:
    """This machine's facts; raises nothing for what is missing.

    Args:
        cache: where artifacts are kept.
        places: where the kernel and the SDK keep what is read.
        proc: the kernel's own folder.
    """
    places = places or Places()
    path = os.pathsep.join([tool_path(os.environ), str(places.sdk / "bin")])
    return Survey(
        python=sys.version_info[:2],
        system=f"{platform.system()} {platform.release()}",
        cpus=len(list_cpus()),
        cpu_target=cpu_target(),
        has_bfloat16=has_bfloat16(),
        memory_bytes=available_memory_bytes(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        cache=_look_at(cache),
        scratch=_look_at_scratch(),
        hub=_look_at_hub(),
        stack=find_stack(),
        versions={name: find_version(name) for name in _PACKAGES},
        tools={name: shutil.which(name, path=path) for name in _TOOLS},
        neuron=_survey_neuron(places, proc),
    )


def _survey_neuron(places: Places, proc: Path) -> Neuron:
    narrowing = {name: os.environ[name] for name in (VISIBLE_CORES, NUM_CORES) if os.environ.get(name)}
    wide = {name: value for name, value in os.environ.items() if name not in narrowing}
    trouble: BackendError | None = None
    nodes = list_nodes(places)
    devices = Devices(None, None, (), 1, len(nodes), 0, "", bool(nodes))
    everything: tuple[NeuronCore, ...] = ()
    found_by = ""
    try:
        devices = discover(Wishes(wide), places)
        everything, found_by = devices.cores, devices.found_by
        devices = discover(Wishes(os.environ), places) if narrowing else devices
    except BackendError as error:
        trouble = error
    return Neuron(
        devices=devices,
        everything=everything,
        found_by=found_by,
        narrowed_by=", ".join(f"{name}={value}" for name, value in narrowing.items()),
        instance=find_instance(devices.instance_type or ""),
        prices=describe_prices(),
        driver=_find_driver(places, proc),
        closed_nodes=tuple(
            str(node)
            for node in (places.dev / f"neuron{number}" for number in nodes)
            if not os.access(node, os.R_OK | os.W_OK)
        ),
        has_runtime=any((places.sdk / "lib").glob("libnrt.so*")),
        host_core_size=_read(places.sdk / "logical_nc_config"),
        asked_core_size=os.environ.get(LOGICAL_CORE_SIZE, ""),
        trouble=trouble,
    )


def _find_driver(places: Places, proc: Path) -> str | None:
    """The driver registers a major number named neuron (SDK: aws-neuronx-dkms)."""
    majors = {words[1] for line in _read(proc / "devices").splitlines() if len(words := line.split()) == 2}
    return _read(places.sys / "module/neuron/version") if "neuron" in majors else None


def _look_at(path: Path) -> Disk:
    """The folder, or the nearest one above it that exists."""
    there = next((folder for folder in (path, *path.absolute().parents) if folder.is_dir()), Path("/"))
    return Disk(path, shutil.disk_usage(there).free, os.access(there, os.W_OK | os.X_OK))


def _look_at_scratch() -> Disk:
    """Where temporary files go; Python looks for a folder that takes one, and may find none."""
    try:
        return _look_at(Path(tempfile.gettempdir()))
    except FileNotFoundError:
        return Disk(Path(os.environ.get("TMPDIR", "/tmp")), 0, False)


def _look_at_hub() -> Hub:
    """As huggingface_hub finds its token and its cache (its page on environment variables)."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    token = Path(os.environ.get("HF_TOKEN_PATH") or home / "token").expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    offline = (
        os.environ.get(name, "").lower() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )
    return Hub(
        has_token=bool(os.environ.get("HF_TOKEN")) or token.is_file(),
        is_offline=any(offline),
        cached_models=len(list(cache.glob("models--*"))),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
