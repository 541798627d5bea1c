"""`torch.neuron`: the device module, and what it knows of this process's cores."""

import os

import torch
from simulated_nrt.cores import Runtime
from simulated_nrt.machine import read_machine

_FORKED = (
    "Cannot re-initialize Neuron runtime in forked subprocess. "
    "To use Neuron with multiprocessing, use the 'spawn' start method"
)
_runtime = Runtime()
_current = 0
_pending = []


def is_available():
    """Whether there is a device that the native stack supports: Trn2 and Trn3."""
    return read_machine().architecture >= 3


def is_initialized():
    return _runtime.is_initialized


def init():
    """Claim the visible cores, at first use."""
    if _runtime.is_forked:
        raise RuntimeError(_FORKED)
    if compiles_only():
        return
    if read_machine().family and not is_available():
        raise RuntimeError(
            f"{read_machine().instance_type} is not supported by TorchNeuron: Trn2 and Trn3 only"
        )
    _runtime.initialize()


def compiles_only():
    """`TORCH_NEURONX_COMPILE_ONLY`; without a device it needs the chip's name as well."""
    if os.environ.get("TORCH_NEURONX_COMPILE_ONLY", "").lower() not in ("1", "true"):
        return False
    if not is_available() and os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE") not in ("trn2", "trn3"):
        raise RuntimeError(
            "TORCH_NEURONX_COMPILE_ONLY without a device needs NEURON_PLATFORM_TARGET_OVERRIDE"
        )
    return True


def device_count():
    if not is_available():
        return 0
    init()
    return 1 if compiles_only() else len(_runtime.cores)


def current_device():
    return _current


def set_device(index):
    global _current
    if index not in range(max(1, len(_runtime.cores))):
        raise ValueError(f"Invalid device id: {index}")
    _current = index


def synchronize(_device=None):
    """Wait for what was started; an error of it is raised here."""
    if _pending:
        error = _pending[0]
        _pending.clear()
        raise error


def postpone(error):
    """Keep an error for the next `synchronize`, or raise it under NEURON_LAUNCH_BLOCKING."""
    if os.environ.get("NEURON_LAUNCH_BLOCKING") == "1":
        raise error
    _pending.append(error)


def get_core():
    """The core behind the current device, and the time limit of a call."""
    return _runtime.cores[_current], _runtime.timeout_s


def manual_seed(_seed):
    pass


def manual_seed_all(_seed):
    pass


def empty_cache():
    pass


def get_amp_supported_dtype():
    return [torch.float32, torch.float16, torch.bfloat16]


def _is_in_bad_fork():
    return _runtime.is_forked
