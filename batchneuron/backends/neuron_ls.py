"""`neuron-ls --json-output`: the devices of this host, their cores, and who holds them.

Read leniently: fields come and go between versions of aws-neuronx-tools, and one that is not there is
worth less than a run (SDK: tools/neuron-sys-tools/neuron-ls).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_TIMEOUT_S = 20.0
_LIST = re.compile(r"^\[\s*\{", re.MULTILINE)
_MOST = 1 << 16


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that uses some cores of a device."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command})" if self.command else f"pid {self.pid}"


@dataclass(frozen=True, slots=True)
class ListedDevice:
    """One device, as neuron-ls tells of it."""

    index: int
    core_ids: tuple[int, ...]
    """Logical cores."""
    logical_core_size: int | None
    """None where the tool does not say: there is only one size, then."""
    memory_bytes: int | None
    cpus: tuple[int, ...]
    """CPUs next to it; empty where the tool does not say."""
    holders: tuple[Holder, ...]
    instance_type: str | None


def list_devices(sdk: Path) -> tuple[ListedDevice, ...]:
    """Devices in their order; none where the tool is missing, fails, or says nothing that can be read.

    `sdk` is where the tools are when PATH does not have them, /opt/aws/neuron.
    """
    tool = shutil.which("neuron-ls") or shutil.which(str(sdk / "bin" / "neuron-ls"))
    if tool is None:
        return ()
    try:
        done = subprocess.run(
            [tool, "--json-output"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_devices(done.stdout)


def parse_devices(text: str) -> tuple[ListedDevice, ...]:
    """The devices in what the tool printed, by index; none where it is not a JSON list of them."""
    start = _LIST.search(text)  # lines of a log may come before it
    try:
        listed, _ = json.JSONDecoder().raw_decode(text, start.start()) if start else ([], 0)
    except ValueError:
        return ()
    entries = [entry for entry in listed if isinstance(entry, dict)]
    read = [pair for number, entry in enumerate(entries) if (pair := _read_device(entry, number))]
    first = 0
    whole = []
    for device, count in sorted(read, key=lambda pair: pair[0].index):
        ids = device.core_ids or tuple(range(first, first + count))
        first = max(first, *(core + 1 for core in ids))
        whole.append(replace(device, core_ids=ids))
    return tuple(whole)


def _read_device(entry: Mapping[str, Any], number: int) -> tuple[ListedDevice, int] | None:
    """A device and how many cores it has; older tools do not name the cores."""
    ids = tuple(core for core in entry.get("neuroncore_ids") or () if isinstance(core, int))
    count = len(ids) or _read_number(entry.get("nc_count")) or 0
    if not count:
        return None
    index = _read_number(entry.get("neuron_device"))
    processes = [each for each in entry.get("neuron_processes") or () if isinstance(each, dict)]
    device = ListedDevice(
        index=number if index is None else index,
        core_ids=ids,
        logical_core_size=_read_number(entry.get("logical_neuroncore_config")),
        memory_bytes=_read_number(entry.get("memory_size")),
        cpus=parse_numbers(str(entry.get("cpu_affinity") or "")),
        holders=tuple(
            Holder(pid, str(each.get("command") or ""))
            for each in processes
            if (pid := _read_number(each.get("pid"))) is not None
        ),
        instance_type=str(entry["instance_type"]) if entry.get("instance_type") else None,
    )
    return device, count


def parse_numbers(text: str) -> tuple[int, ...]:
    """Numbers of a list such as `0-3,8`, ascending, each once; none where it is no such list, or absurd."""
    numbers: set[int] = set()
    for piece in text.replace(" ", "").split(","):
        low, dash, high = piece.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or int(high or low) >= _MOST:
            return ()
        numbers.update(range(int(low), int(high or low) + 1))
    return tuple(sorted(numbers))


def _read_number(value: Any) -> int | None:
    """A whole number, which some versions write as text."""
    text = str(value)
    return int(text) if text.isdecimal() and not isinstance(value, bool) else None
