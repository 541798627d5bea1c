"""A machine, and what the doctor found on it, as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchneuron.backends.neuron_devices import NeuronCore
from batchneuron.backends.survey import Neuron, Survey
from batchneuron.doctor import Check
from batchneuron.doctor.check import show_count


def render_devices(survey: Survey) -> str:
    """What this machine has: Neuron devices and who holds them, or its CPUs."""
    neuron = survey.neuron
    precision = "bfloat16 in its own units" if survey.has_bfloat16 else "no bfloat16 units"
    host = [
        ("cpus", f"{survey.cpus} x {survey.cpu_target}, {precision}"),
        ("memory", f"{_gib(survey.memory_bytes)} available"),
    ]
    if neuron.trouble is not None:
        trouble = f"cannot be told: {neuron.trouble.what}"
        return _list([("machine", neuron.devices.instance_type or "unknown"), ("devices", trouble), *host])
    if not neuron.everything:
        return _list([("machine", neuron.devices.instance_type or "no Neuron device"), *host])
    return f"{_list([*_describe(neuron), *host])}\n\n{_render_cores(neuron)}"


def render_checks(checks: Sequence[Check]) -> str:
    """One line a check, and below it what mends it."""
    width = max(len(check.name) for check in checks)
    lines: list[str] = []
    for check in checks:
        lines.append(f"{check.state:<7}  {check.name:<{width}}  {check.told}")
        if check.fix:
            lines.append(f"{'':<7}  {'':<{width}}  → {check.fix}")
    problems, warnings = (sum(check.state == state for check in checks) for state in ("problem", "warning"))
    lines += ["", f"{show_count(problems, 'problem')}, {show_count(warnings, 'warning')}"]
    return "\n".join(lines)


def show_range(numbers: Iterable[int]) -> str:
    """`0-3,8`, a dash for none."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "-"


def _describe(neuron: Neuron) -> list[tuple[str, str]]:
    devices, instance = neuron.devices, neuron.instance
    size = devices.logical_core_size
    cores = f"{len(neuron.everything)}{f', of {size} physical ones each' if size > 1 else ''}"
    if neuron.narrowed_by:
        cores = f"{cores}; {neuron.narrowed_by} leaves {len(devices.cores)}: {_indices(devices.cores)}"
    prices = instance and [
        f"{price:.2f} USD/h {kind}"
        for price, kind in (
            (instance.on_demand_usd_per_hour, "on demand"),
            (instance.reserved_usd_per_hour, "reserved"),
        )
        if price is not None
    ]
    chips = f"{devices.device_count} x {devices.family}, {_gib(devices.memory_bytes)} in all"
    driver = f", driver {neuron.driver}" if neuron.driver else ""
    return [
        ("machine", f"{devices.instance_type or 'unknown type'}, found by {neuron.found_by}"),
        ("chips", f"{chips}{driver}"),
        ("cores", cores),
        ("price", f"{', '.join(prices)} ({neuron.prices})" if prices else "not in the table"),
    ]


def _render_cores(neuron: Neuron) -> str:
    """A line for each device."""
    ours = {core.index for core in neuron.devices.cores}
    groups: dict[int | None, list[NeuronCore]] = {}
    for core in neuron.everything:
        groups.setdefault(core.device, []).append(core)
    rows = [("device", "cores", "ours", "cpus", "held by")]
    for device, cores in groups.items():
        rows.append(
            (
                "?" if device is None else str(device),
                _indices(cores),
                show_range(core.index for core in cores if core.index in ours),
                show_range(cores[0].cpus),
                ", ".join(map(str, cores[0].holders)) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _indices(cores: Iterable[NeuronCore]) -> str:
    return show_range(core.index for core in cores)


def _list(lines: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{name:<8} {value}" for name, value in lines)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):,.0f} GiB"
