"""Folders that look like a Neuron machine's /dev, /sys and /opt/aws/neuron, and what neuron-ls says there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from batchneuron.backends.neuron_devices import Places

GIB = 1 << 30


def make_places(
    folder: Path, *, devices: int = 0, instance_type: str = "", listed: Any = None, core_size: str = ""
) -> Places:
    """A machine with so many /dev/neuron*, and a neuron-ls that prints `listed` where that is given."""
    places = Places(folder / "dev", folder / "sys", folder / "sdk")
    for path in (places.dev, places.sys, places.sdk / "bin"):
        path.mkdir(parents=True)
    for name in ["null", "neuron_rdma", *(f"neuron{number}" for number in range(devices))]:
        (places.dev / name).touch()
    if instance_type:
        product = places.sys / "devices/virtual/dmi/id/product_name"
        product.parent.mkdir(parents=True)
        product.write_text(f"{instance_type}\n")
    if core_size:
        (places.sdk / "logical_nc_config").write_text(f"{core_size}\n")
    if listed is not None:
        set_listed(places, listed if isinstance(listed, str) else json.dumps(listed, indent=4))
    return places


def set_listed(places: Places, text: str) -> None:
    """Make neuron-ls print that."""
    (places.sdk / "listed").write_text(text)
    tool = places.sdk / "bin" / "neuron-ls"
    tool.write_text(f"#!/bin/sh\nexec /bin/cat {places.sdk / 'listed'}\n")
    tool.chmod(0o755)


def inf2_48xlarge() -> list[dict[str, Any]]:
    """As the page on neuron-ls has it: 12 devices of two cores, half of them at each NUMA node."""
    return [
        {
            "neuron_device": number,
            "bdf": f"{number:02x}:1f.0",
            "cpu_affinity": "0-47,96-143" if number < 6 else "48-95,144-191",
            "numa_node": "0" if number < 6 else "1",
            "connected_to": [(number + 11) % 12, (number + 1) % 12],
            "nc_count": 2,
            "memory_size": 32 * GIB,
            "neuroncore_ids": [2 * number, 2 * number + 1],
            "neuron_processes": [],
        }
        for number in range(12)
    ]


def trn2_48xlarge(size: int) -> list[dict[str, Any]]:
    """16 devices of eight physical cores, in logical ones of that size."""
    count = 8 // size
    return [
        {
            "instance_type": "trn2.48xlarge",
            "instance_id": "i-0123456789abcdef0",
            "neuron_device": number,
            "bdf": f"0000:{number:02x}:00.0",
            "cpu_affinity": "0-47,96-143" if number < 8 else "48-95,144-191",
            "numa_node": "-1",
            "connected_to": None,
            "nc_count": count,
            "logical_neuroncore_config": size,
            "memory_size": 96 * GIB,
            "neuroncore_ids": list(range(number * count, (number + 1) * count)),
            "neuron_processes": [],
        }
        for number in range(16)
    ]
