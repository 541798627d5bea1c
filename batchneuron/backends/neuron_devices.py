"""Which NeuronCores this process may use, found without touching the runtime.

In this order: what the user set, what `neuron-ls` lists, what /dev and the chip's family imply. Cores are
logical ones, counted as NEURON_RT_VISIBLE_CORES counts them; where that is set already (Kubernetes' device
plugin, Ray, the user), that very set is shared out and never widened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchneuron.backends.neuron_chips import Family, find_instance, list_families, name_family
from batchneuron.backends.neuron_ls import Holder, ListedDevice, list_devices, parse_numbers
from batchneuron.errors import BackendError

VISIBLE_CORES = "NEURON_RT_VISIBLE_CORES"
NUM_CORES = "NEURON_RT_NUM_CORES"
LOGICAL_CORE_SIZE = "NEURON_LOGICAL_NC_CONFIG"
_LOGICAL_CORE_SIZE_BEFORE = "NEURON_RT_VIRTUAL_CORE_SIZE"
_HOST_FILE = "logical_nc_config"
_NODE = re.compile(r"neuron(\d+)")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the kernel and the SDK keep what is read here."""

    dev: Path = Path("/dev")
    sys: Path = Path("/sys")
    sdk: Path = Path("/opt/aws/neuron")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the spec and the environment say about devices."""

    environ: Mapping[str, str]
    target: str = "auto"
    """`backend.target`"""
    logical_core_size: int | str = "auto"
    """`backend.logical_core_size`"""


@dataclass(frozen=True, slots=True)
class NeuronCore:
    """One logical core."""

    index: int
    device: int | None
    """None where only its number is known."""
    cpus: tuple[int, ...] = ()
    """Those next to its device; empty: not known."""
    holders: tuple[Holder, ...] = ()
    """Processes that use cores of its device, perhaps this one."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The Neuron devices of this machine, and the cores of them that are ours."""

    instance_type: str | None
    family: str | None
    """inf2, trn1, trn1n, trn2 or trn3; None: not known."""
    cores: tuple[NeuronCore, ...]
    """Those this process may use; empty where there is no device."""
    logical_core_size: int
    """Physical cores in a logical one; 1 where the family knows nothing else."""
    device_count: int
    memory_bytes: int
    """Of all devices together; 0: not known."""
    found_by: str
    """What told of them: `neuron-ls`, `/dev/neuron*`, or a variable's name; empty where there are none."""
    has_driver: bool
    """Whether there is a /dev/neuron*."""


def is_neuron_machine(places: Places) -> bool:
    """Whether this is an Inf2 or Trn machine, or at least has devices; asks no tool where /dev tells."""
    if list_nodes(places) or name_family(_read_instance_type(places) or ""):
        return True
    return bool(list_devices(places.sdk))


def find_family(places: Places) -> str | None:
    """This machine's family, from the kernel where it tells, else from neuron-ls; None: not known."""
    named = _read_instance_type(places) or ""
    if family := name_family(named):
        return family
    told = (device.instance_type for device in list_devices(places.sdk))
    return next((family for name in told if name and (family := name_family(name))), None)


def discover(wishes: Wishes, places: Places) -> Devices:
    """The devices and cores that there are; none is no error.

    Raises:
        BackendError: a setting that cannot be, or a device whose family nothing tells.
    """
    listed, nodes = list_devices(places.sdk), list_nodes(places)
    told = next((device.instance_type for device in listed if device.instance_type), None)
    instance_type = told or _read_instance_type(places)
    family = name_family(instance_type or "") or _unless_auto(wishes.target)
    size = choose_logical_core_size(wishes, places, family)
    if listed:
        found_by, everything = "neuron-ls", _count_listed(listed, size)
    else:
        found_by, everything = ("/dev/neuron*" if nodes else ""), _count_nodes(nodes, family, size)
    cores, chosen_by = _choose(everything, wishes.environ)
    return Devices(
        instance_type=instance_type,
        family=family,
        cores=cores,
        logical_core_size=size,
        device_count=len(listed) or len(nodes),
        memory_bytes=_count_memory(listed, nodes, family),
        found_by=chosen_by if chosen_by == VISIBLE_CORES else found_by,
        has_driver=bool(nodes),
    )


def choose_logical_core_size(wishes: Wishes, places: Places, family: str | None) -> int:
    """Physical cores in a logical one, which compiler and runtime must agree on.

    The spec, then the environment, then the host's file, then neuron-ls, then the family's default
    (SDK: neuron-runtime/guides/configuration-guide, NEURON_LOGICAL_NC_CONFIG).

    Raises:
        BackendError: a size that the family does not have.
    """
    chip = list_families().get(family or "")
    sizes = chip.logical_core_sizes if chip else (1,)
    where, text = next(_iter_core_sizes(wishes, places, len(sizes) > 1), ("", str(sizes[0])))
    if chip is not None and text not in map(str, sizes):
        known = " or ".join(map(str, sizes))
        raise BackendError(f"a logical core of {text} physical ones; {family} has {known}", where)
    return int(text) if text.isdecimal() else sizes[0]


def _iter_core_sizes(wishes: Wishes, places: Places, is_open: bool) -> Iterator[tuple[str, str]]:
    """What tells of the size, and the size, first things first; neuron-ls is asked only where it is open."""
    if wishes.logical_core_size != "auto":
        yield "backend.logical_core_size", str(wishes.logical_core_size)
    for name in (LOGICAL_CORE_SIZE, _LOGICAL_CORE_SIZE_BEFORE):
        if text := wishes.environ.get(name):
            yield name, text
    if text := _read(places.sdk / _HOST_FILE):
        yield str(places.sdk / _HOST_FILE), text
    for device in list_devices(places.sdk) if is_open else ():
        if device.logical_core_size:
            yield "neuron-ls", str(device.logical_core_size)


def list_nodes(places: Places) -> tuple[int, ...]:
    """Numbers of the /dev/neuron* that are there, ascending."""
    try:
        names = [entry.name for entry in places.dev.iterdir()]
    except OSError:
        return ()
    return tuple(sorted(int(match[1]) for name in names if (match := _NODE.fullmatch(name))))


def find_holders(index: int, places: Places) -> tuple[Holder, ...]:
    """Processes on the device of a logical core, as neuron-ls tells now; none where it does not."""
    devices = list_devices(places.sdk)
    return next((device.holders for device in devices if index in device.core_ids), ())


def _count_listed(listed: tuple[ListedDevice, ...], size: int) -> tuple[NeuronCore, ...]:
    """Cores of the devices that neuron-ls lists; told in another size than ours, they are counted anew."""
    cores: list[NeuronCore] = []
    for device in listed:
        theirs = device.logical_core_size or size
        first = min(device.core_ids) * theirs // size
        count = len(device.core_ids) * theirs // size
        ids = device.core_ids if theirs == size else range(first, first + count)
        cores += (NeuronCore(core, device.index, device.cpus, device.holders) for core in ids)
    return tuple(cores)


def _count_nodes(nodes: tuple[int, ...], family: str | None, size: int) -> tuple[NeuronCore, ...]:
    """Cores of the devices in /dev, each with as many as its family has.

    Raises:
        BackendError: nothing tells the family.
    """
    if not nodes:
        return ()
    if family is None:
        raise BackendError(
            f"there are {len(nodes)} Neuron devices, and nothing tells of what kind",
            "/dev/neuron*",
            "install aws-neuronx-tools, or set backend.target",
        )
    per_device = list_families()[family].physical_cores_per_chip // size
    return tuple(NeuronCore(node * per_device + core, node) for node in nodes for core in range(per_device))


def _choose(
    everything: tuple[NeuronCore, ...], environ: Mapping[str, str]
) -> tuple[tuple[NeuronCore, ...], str]:
    """The cores that the environment leaves to this process, and the variable that says so.

    Raises:
        BackendError: it names cores that do not exist.
    """
    visible, number = environ.get(VISIBLE_CORES, "").strip(), environ.get(NUM_CORES, "").strip()
    if visible:
        indices = parse_numbers(visible)
        known = {core.index: core for core in everything}
        # In a container some runtimes count from 0 whatever the device is called.
        absent = [index for index in indices if known and index not in known and index >= len(known)]
        if not indices or absent:
            there = f"there are {_show_range(known)}" if known else "give numbers: 0-3 or 0,1"
            raise BackendError(f"'{visible}' names no such cores; {there}", VISIBLE_CORES)
        return tuple(known.get(index, NeuronCore(index, None)) for index in indices), VISIBLE_CORES
    if number in {"", "0"}:
        return everything, ""
    if not number.isdecimal() or int(number) > len(everything):
        raise BackendError(f"'{number}' cores are asked for, and there are {len(everything)}", NUM_CORES)
    return everything[: int(number)], NUM_CORES


def _count_memory(listed: tuple[ListedDevice, ...], nodes: tuple[int, ...], family: str | None) -> int:
    chip: Family | None = list_families().get(family or "")
    per_chip = chip.device_bytes_per_chip if chip else 0
    if listed:
        return sum(device.memory_bytes or per_chip for device in listed)
    return len(nodes) * per_chip


def _read_instance_type(places: Places) -> str | None:
    """The EC2 instance type, from the firmware or from the driver; None where neither tells of ours."""
    product = _read(places.sys / "devices/virtual/dmi/id/product_name")
    if name_family(product) or find_instance(product):
        return product
    driver = places.sys / "devices/virtual/neuron_device"
    for architecture in sorted(driver.glob("neuron*/info/architecture")):
        told = _read(architecture / "instance_type")
        if name_family(told):
            return told
    return None


def _show_range(known: Mapping[int, NeuronCore]) -> str:
    low, high = min(known), max(known)
    return f"{low}-{high}" if len(known) == high - low + 1 else ",".join(map(str, sorted(known)))


def _unless_auto(text: str) -> str | None:
    return None if text == "auto" else text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
