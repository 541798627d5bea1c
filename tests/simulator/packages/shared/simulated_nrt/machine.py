"""The machine as its state folder tells it, and the log of what happened on it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

STATE = "SIMULATED_NEURON_STATE"
# Architectures: a program runs on the one that it was compiled for (trace and runtime pages).
ARCHITECTURES = {"inf2": 2, "trn1": 2, "trn1n": 2, "trn2": 3, "trn2u": 3, "trn3": 4}


@dataclass(frozen=True)
class Machine:
    """An instance; `family` is empty where there is no Neuron device."""

    instance_type: str
    family: str
    devices: int
    physical_cores_per_device: int
    device_memory_bytes: int
    compile_s: float

    @property
    def architecture(self):
        return ARCHITECTURES.get(self.family, 0)

    @property
    def has_logical_cores(self):
        """Whether two physical cores can be one (Trn2, Trn3)."""
        return self.architecture >= 3

    def cores_per_device(self, logical_core_size):
        size = logical_core_size if self.has_logical_cores else 1
        return self.physical_cores_per_device // size


def state_folder():
    return Path(os.environ[STATE])


def read_machine():
    return Machine(**json.loads((state_folder() / "machine.json").read_text()))


def read_logical_core_size(environment=os.environ):
    """`NEURON_LOGICAL_NC_CONFIG`, or its older name; 2 by default."""
    text = environment.get("NEURON_LOGICAL_NC_CONFIG") or environment.get("NEURON_RT_VIRTUAL_CORE_SIZE")
    size = int(text or 2)
    if size not in (1, 2):
        raise RuntimeError(f"NEURON_LOGICAL_NC_CONFIG: {text} is not 1 or 2")
    return size


def log(event, **facts):
    """One line, in one write, so that processes do not cut each other's lines."""
    line = json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n"
    handle = os.open(state_folder() / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def count(name):
    """How often this has been asked, over all processes; 1 at the first time."""
    folder = state_folder() / "counts"
    folder.mkdir(exist_ok=True)
    handle = os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, b".")
    size = os.fstat(handle).st_size
    os.close(handle)
    return size
