"""Checks of the Neuron side: driver, devices, who holds them, the stack and its tools."""

from __future__ import annotations

import re

from batchneuron.backends.neuron_stack import INSTALL, choose_backend, require_compiler, require_stack
from batchneuron.backends.survey import Survey
from batchneuron.doctor.check import Check, Judge, show_count, show_gib
from batchneuron.errors import BackendError

_DRIVER = "sudo apt-get install -y aws-neuronx-dkms"
_RUNTIME = "sudo apt-get install -y aws-neuronx-runtime-lib aws-neuronx-collectives"
_TOOLS = "sudo apt-get install -y aws-neuronx-tools"
_PATH = "source .venv/bin/activate"
_UNINSTALL = "pip uninstall -y torch-neuronx neuronx-cc"
# A runtime of 2.32 or later in an image needs a host driver above this (SDK: release notes of 2.32).
_LAST_OLD_DRIVER = (2, 26)
# neuronx-cc with a base-size encoder; on 16 GiB (inf2.xlarge) it gets killed (SDK issues 706, 431, 1064).
_COMPILE_BYTES = 16 << 30


def check_driver(survey: Survey) -> Check | None:
    """The kernel's driver, by the major number it registers."""
    neuron = survey.neuron
    numbers = _read_numbers(neuron.driver or "")
    if numbers is not None and numbers <= _LAST_OLD_DRIVER:
        told = f"{neuron.driver}: runtimes of 2.32 and later need one above 2.26"
        return Check("driver", "warning", told, f"on the host, {_DRIVER}")
    if neuron.driver is not None:
        return Check("driver", "ok", neuron.driver or "loaded; its version is not told")
    if neuron.found_by == "neuron-ls":
        # neuron-ls opens the devices itself: what it lists has a driver, whatever a container shows.
        return Check(
            "driver", "warning", "/proc/devices names none, and neuron-ls lists devices all the same"
        )
    if _is_neuron(survey):
        return Check("driver", "problem", f"not loaded on this {neuron.devices.instance_type}", _DRIVER)
    return None


def check_devices(survey: Survey) -> Check | None:
    """Devices and cores, and how many are left to this process."""
    neuron, devices = survey.neuron, survey.neuron.devices
    if neuron.trouble is not None:
        where = f"{neuron.trouble.where}: " if neuron.trouble.where else ""
        return Check("devices", "problem", f"{where}{neuron.trouble.what}", neuron.trouble.hint)
    if not neuron.everything:
        if not _is_neuron(survey):
            return Check("devices", "ok", "no Neuron device: jobs run on the CPU")
        what = f"none on this {devices.instance_type}"
        fix = "load the driver, or give the container its devices: docker run --device=/dev/neuron0 …"
        return Check("devices", "problem", what, fix)
    cores = f"{show_count(len(neuron.everything), 'core')}, found by {neuron.found_by}"
    told = f"{devices.device_count} x {devices.family}, {cores}"
    if len(devices.cores) < len(neuron.everything):
        return Check("devices", "ok", f"{told}; {neuron.narrowed_by} leaves {len(devices.cores)}")
    return Check("devices", "ok", told)


def check_nodes(survey: Survey) -> Check | None:
    """Whether this user may open the devices."""
    closed = survey.neuron.closed_nodes
    if not survey.neuron.devices.has_driver:
        return None
    if closed:
        named = ", ".join(closed[:3])
        fix = f"sudo chmod a+rw {closed[0]}, or docker run --group-add $(stat -c %g {closed[0]}) …"
        return Check("device nodes", "problem", f"this user may not open {named}", fix)
    return Check("device nodes", "ok", "this user may open all of them")


def check_runtime(survey: Survey) -> Check | None:
    """The runtime's library, without which no program is loaded."""
    if not _is_neuron(survey):
        return None
    if not survey.neuron.has_runtime:
        what = "no /opt/aws/neuron/lib/libnrt.so: programs cannot be loaded"
        return Check("runtime", "warning", what, _RUNTIME)
    return Check("runtime", "ok", "libnrt.so")


def check_holders(survey: Survey) -> Check | None:
    """Processes that hold cores: a core has one owner, until that process ends."""
    if not survey.neuron.everything:
        return None
    held = {
        core.device: core.holders
        for core in survey.neuron.devices.cores
        if core.holders and core.device is not None
    }
    if not held:
        return Check("cores", "ok", "nobody holds any")
    devices = {core.device for core in survey.neuron.devices.cores}
    named = "; ".join(
        f"device {device}: {', '.join(map(str, holders))}" for device, holders in list(held.items())[:3]
    )
    pids = sorted({holder.pid for holders in held.values() for holder in holders})
    told = f"{len(held)} of {len(devices)} devices have other users: {named}"
    fix = f"wait for them, or kill {' '.join(map(str, pids[:8]))}; free cores: NEURON_RT_VISIBLE_CORES=0-3"
    return Check("cores", "problem" if len(held) == len(devices) else "warning", told, fix)


def check_core_size(survey: Survey) -> Check | None:
    """Logical cores, which compiler and runtime must agree on."""
    devices, host, asked = survey.neuron.devices, survey.neuron.host_core_size, survey.neuron.asked_core_size
    if devices.family not in {"trn2", "trn3"}:
        return None
    told = f"{devices.logical_core_size} physical cores each"
    if host and asked and host != asked:
        return Check(
            "logical cores",
            "warning",
            f"the host is set to {host}, NEURON_LOGICAL_NC_CONFIG says {asked}",
            "unset NEURON_LOGICAL_NC_CONFIG, or set backend.logical_core_size",
        )
    return Check("logical cores", "ok", told)


def check_stack(survey: Survey) -> Check | None:
    """Which torch-neuronx is installed, and whether it is this chip's."""
    stack, family = survey.stack, survey.neuron.devices.family
    if family is not None and _is_neuron(survey):
        backend = choose_backend(family)
        try:
            require_stack(stack, backend, family)
        except BackendError as error:
            return Check("stack", "problem", error.what, INSTALL[backend])
        return Check("stack", "ok", str(stack))
    if stack.kind == "stub":
        return Check("stack", "warning", str(stack), _UNINSTALL)
    if stack.backend is None:
        return None
    return Check("stack", "ok", f"{stack}: with backend.target this machine can compile for others")


def check_compiler(survey: Survey) -> Check | None:
    """neuronx-cc: needed to compile, and by the native stack also to find what is compiled already."""
    backend = survey.stack.backend
    if backend is None:
        return None
    try:
        require_compiler(survey.stack, backend)
    except BackendError as error:
        is_needed = backend == "neuron" and _is_neuron(survey)
        return Check(
            "compiler", "problem" if is_needed else "warning", error.what, error.hint.replace("`", "")
        )
    if survey.tools["neuronx-cc"] is None:
        return Check("compiler", "warning", "neuronx-cc is installed, and not on PATH", _PATH)
    return Check("compiler", "ok", f"neuronx-cc {survey.stack.versions['neuronx-cc']}")


def check_plugin(survey: Survey) -> Check | None:
    """libneuronpjrt-path, which importing the XLA stack's torch_neuronx calls by name."""
    if survey.stack.kind != "trace":
        return None
    if survey.tools["libneuronpjrt-path"] is None:
        return Check("runtime plugin", "problem", "libneuronpjrt-path is not on PATH", _PATH)
    return Check("runtime plugin", "ok", "libneuronpjrt-path is on PATH")


def check_tools(survey: Survey) -> Check | None:
    """neuron-ls, which tells cores and their holders."""
    if not _is_neuron(survey):
        return None
    if survey.tools["neuron-ls"] is None:
        what = "no neuron-ls: cores are counted by family, and their holders are not seen"
        return Check("tools", "warning", what, _TOOLS)
    return Check("tools", "ok", "neuron-ls")


def check_compile_memory(survey: Survey) -> Check | None:
    """Memory of the compiler, which is killed where there is too little (SDK issues 706, 431)."""
    if survey.stack.backend is None or survey.memory_bytes >= _COMPILE_BYTES:
        return None
    return Check(
        "compile memory",
        "warning",
        f"{show_gib(survey.memory_bytes)}: neuronx-cc may be killed",
        "compile on a larger machine (batchneuron compile), and share backend.artifacts",
    )


def _read_numbers(version: str) -> tuple[int, ...] | None:
    """The first two numbers of a version; None where it has none."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, numbers.groups())) if numbers else None


def _is_neuron(survey: Survey) -> bool:
    """Whether this is a machine with Neuron chips, seen or only known by its type."""
    devices = survey.neuron.devices
    return bool(survey.neuron.everything or devices.instance_type or devices.device_count)


CHECKS: tuple[Judge, ...] = (
    check_driver,
    check_devices,
    check_nodes,
    check_runtime,
    check_tools,
    check_core_size,
    check_stack,
    check_compiler,
    check_plugin,
    check_compile_memory,
    check_holders,
)
