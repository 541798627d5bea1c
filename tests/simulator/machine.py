"""Make a simulated Neuron machine in a folder, break parts of it, and read what happened on it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).with_name("packages")
GIB = 1 << 30

# family, devices, physical cores of a device, memory of a device: SDK architecture pages.
INSTANCES = {
    "none": ("", 0, 0, 0),
    "inf2.xlarge": ("inf2", 1, 2, 32 * GIB),
    "inf2.8xlarge": ("inf2", 1, 2, 32 * GIB),
    "inf2.24xlarge": ("inf2", 6, 2, 32 * GIB),
    "inf2.48xlarge": ("inf2", 12, 2, 32 * GIB),
    "trn1.2xlarge": ("trn1", 1, 2, 32 * GIB),
    "trn1.32xlarge": ("trn1", 16, 2, 32 * GIB),
    "trn1n.32xlarge": ("trn1n", 16, 2, 32 * GIB),
    "trn2.3xlarge": ("trn2", 1, 8, 96 * GIB),
    "trn2.48xlarge": ("trn2", 16, 8, 96 * GIB),
    "trn2u.48xlarge": ("trn2u", 16, 8, 96 * GIB),
    "trn3.test": ("trn3", 4, 8, 144 * GIB),
}
COMPILER = ("neuronx-cc", "2.28.7631.0")
# Distributions of each stack, as `pip list` would have them: RTD release notes of SDK 2.33.
STACKS = {
    "trace": (("torch-neuronx", "2.9.0.2.15.32035"), ("torch", "2.9.1"), ("libneuronxla", "3.0.10135")),
    "native": (("torch-neuronx", "2.14.3.0.21584"), ("torch", "2.14.0")),
    "stub": (("torch-neuronx", "1.0"),),
    "bare": (),
}
_ENTRY_POINTS = """\
[torch.backends]
torch_neuronx = torch_neuronx:_autoload

[torch_dynamo_backends]
neuron = torch_neuronx.neuron_dynamo_backend.backend:neuron_backend
"""


@dataclass(frozen=True)
class Machine:
    """A simulated machine: its folder, and the variables of a process that runs on it."""

    folder: Path
    variables: dict[str, str]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the machine's variables."""
        return {**os.environ, **self.variables}

    def read_log(self, event: str) -> list[dict[str, Any]]:
        """Everything of that kind that happened, in order: claim, refused, load, call, compile, fault …"""
        path = self.state / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    def break_core(self, core: int, kind: str, **how: Any) -> None:
        """Tell a core to fail.

        Args:
            core: its number.
            kind: status, load, hang, nan, kill, segfault, busy, or wait.
            **how: `at`, the first call (claim, for busy) it happens at, by default 1; `times`, how often, by
                default 1, None for ever; `status` of an error; `rows` of a batch that are NaN; for wait,
                `until` a counter (`core-1.calls`, `core-1.claims`, `core-1.fired`) is at `number`.
        """
        self._write_fault(f"core-{core}", {"kind": kind, **how})

    def break_compiler(self, kind: str, **how: Any) -> None:
        """Tell the compiler to fail: `fail` with the text `log`, `kill` or `segfault`.

        `victim="caller"` kills the process that compiles instead of the compiler's own.
        """
        self._write_fault("compiler", {"kind": kind, **how})

    def break_operators(self, *names: str) -> None:
        """Operators that the native compiler does not take."""
        self._write_fault("operators", {"unsupported": names})

    def remove_compiler(self) -> None:
        """Uninstall neuronx-cc: what is left is the runtime's half of the stack."""
        for folder in (self.folder / "site").glob("neuronx_cc-*"):
            shutil.rmtree(folder)
        (self.folder / "bin/neuronx-cc").unlink()

    def mend(self) -> None:
        """Take all faults back."""
        for path in (self.state / "faults").iterdir():
            path.unlink()

    def _write_fault(self, name: str, fault: dict[str, Any]) -> None:
        for counter in (self.state / "counts").glob(f"{name}.*"):
            counter.unlink()
        (self.state / "faults" / f"{name}.json").write_text(json.dumps(fault))


def install(folder: Path, instance_type: str, stack: str = "", *, compile_s: float = 0.0) -> Machine:
    """A machine of that type with a Neuron stack, in an empty folder.

    Args:
        folder: holds it.
        instance_type: a name of INSTANCES; `none` has no device.
        stack: a name of STACKS; by default the one that the family needs.
        compile_s: seconds that one compilation takes.
    """
    family, devices, cores, memory_bytes = INSTANCES[instance_type]
    stack = stack or ("native" if family.startswith(("trn2", "trn3")) else "trace")
    for name in ("state/faults", "state/counts", "site", "bin"):
        (folder / name).mkdir(parents=True)
    (folder / "state/machine.json").write_text(
        json.dumps(
            {
                "instance_type": instance_type,
                "family": family,
                "devices": devices,
                "physical_cores_per_device": cores,
                "device_memory_bytes": memory_bytes,
                "compile_s": compile_s,
            }
        )
    )
    _write_distributions(folder / "site", stack)
    _write_commands(folder / "bin")
    paths = (folder / "site", PACKAGES / stack, PACKAGES / "shared")
    variables = {
        "SIMULATED_NEURON_STATE": str(folder / "state"),
        "PYTHONPATH": os.pathsep.join([*map(str, paths), *_before("PYTHONPATH")]),
        "PATH": os.pathsep.join([str(folder / "bin"), *_before("PATH")]),
    }
    return Machine(folder, variables)


def _write_distributions(site: Path, stack: str) -> None:
    compiler = [(COMPILER[0], "1.0")] if stack == "stub" else [COMPILER] if stack != "bare" else []
    for name, version in (*STACKS[stack], *compiler):
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if stack == "native" and name == "torch-neuronx":
            (folder / "entry_points.txt").write_text(_ENTRY_POINTS)


def _write_commands(folder: Path) -> None:
    modules = {"neuron-ls": "neuron_ls", "neuronx-cc": "compiler"}
    for name, module in modules.items():
        (folder / name).write_text(
            f"#!{sys.executable}\nimport sys\nfrom simulated_nrt.{module} import main\nsys.exit(main())\n"
        )
    (folder / "libneuronpjrt-path").write_text("#!/bin/sh\necho /nowhere/libneuronpjrt.so\n")
    for path in folder.iterdir():
        path.chmod(0o755)


def _before(name: str) -> list[str]:
    return [os.environ[name]] if os.environ.get(name) else []
