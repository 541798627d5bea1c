"""What is known of Neuron chips and instance types, from the one data file `neuron_instances.json`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

_DATA = "neuron_instances.json"


@dataclass(frozen=True, slots=True)
class Family:
    """One generation of chips."""

    name: str
    physical_cores_per_chip: int
    logical_core_sizes: tuple[int, ...]
    """Physical cores that a logical one may have; the first is the default."""
    device_bytes_per_chip: int


@dataclass(frozen=True, slots=True)
class Instance:
    """One EC2 instance type."""

    name: str
    family: str
    chips: int
    vcpus: int
    host_bytes: int | None
    """None where no page that we could read says."""
    on_demand_usd_per_hour: float | None
    """us-east-1; None where it is not listed."""
    reserved_usd_per_hour: float | None
    """Effective price with a reservation."""


def name_family(text: str) -> str | None:
    """The family of an instance type or a chip's name, None where it is no Neuron chip of ours.

    `inf2.48xlarge` is inf2 and `trn2u.48xlarge` is trn2; any name that begins with trn3 is trn3, whose
    instance types were not public when this was written.
    """
    head = text.strip().lower().partition(".")[0]
    if head in list_families():
        return head
    return next((name for name in ("trn2", "trn3") if head.startswith(name)), None)


def list_families() -> Mapping[str, Family]:
    """Every family by its name."""
    return {
        name: Family(
            name,
            facts["physical_cores_per_chip"],
            tuple(facts["logical_core_sizes"]),
            facts["device_gib_per_chip"] << 30,
        )
        for name, facts in _read_data()["families"].items()
    }


def find_instance(name: str) -> Instance | None:
    """What is known of an instance type; None where it is not in the data file."""
    facts = _read_data()["instances"].get(name)
    if facts is None:
        return None
    host_gib = facts["host_gib"]
    return Instance(
        name=name,
        family=facts["family"],
        chips=facts["chips"],
        vcpus=facts["vcpus"],
        host_bytes=None if host_gib is None else host_gib << 30,
        on_demand_usd_per_hour=facts["on_demand"],
        reserved_usd_per_hour=facts["reserved"],
    )


def describe_prices() -> str:
    """Where the on-demand prices were read, and when."""
    return str(_read_data()["sources"]["on_demand_usd_per_hour"])


@functools.cache
def _read_data() -> dict[str, Any]:
    """The file, which is part of the package and does not change."""
    data: dict[str, Any] = json.loads(files(__package__).joinpath(_DATA).read_text(encoding="utf-8"))
    return data
