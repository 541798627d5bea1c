"""What a RuntimeError of the Neuron runtime means: its NRT status, and the error of ours that fits.

Python sees a status only as text, which no page specifies, so this is best effort: a status that is not
recognised is a DeviceFault, which costs one worker's restart and is bounded by the attempts of a shard
(SDK: neuron-runtime/api/nrt_status).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchneuron.errors import (
    ArtifactMismatch,
    BackendError,
    BatchNeuronError,
    CoreLost,
    DeviceFault,
    DeviceMemoryFull,
    ProgramError,
)

NAMES: Mapping[int, str] = {
    1: "FAILURE",
    2: "INVALID",
    3: "INVALID_HANDLE",
    4: "RESOURCE",
    5: "TIMEOUT",
    6: "HW_ERROR",
    7: "QUEUE_FULL",
    9: "LOAD_NOT_ENOUGH_NC",
    10: "UNSUPPORTED_NEFF_VERSION",
    11: "FAIL_HOST_MEM_ALLOC",
    13: "UNINITIALIZED",
    14: "CLOSED",
    15: "QUEUE_EMPTY",
    101: "EXEC_UNIT_UNRECOVERABLE",
    1002: "EXEC_BAD_INPUT",
    1003: "EXEC_COMPLETED_WITH_NUM_ERR",
    1004: "EXEC_COMPLETED_WITH_ERR",
    1005: "EXEC_NC_BUSY",
    1006: "EXEC_OOB",
    1100: "COLL_PENDING",
    1200: "HW_ERR_COLLECTIVES",
    1201: "HW_ERR_HBM_UE",
    1202: "HW_ERR_NC_UE",
    1203: "HW_ERR_DMA_ABORT",
    1204: "SW_NQ_OVERFLOW",
    1205: "HW_ERR_REPAIRABLE_HBM_UE",
    1206: "NETWORK_PROXY_FAILURE",
}
"""NRT_STATUS, without its NRT_."""

_FIT = "fewer or shorter shapes.sequence_length, or a smaller shapes.batch_size"
_COMPILE_AGAIN = "compile it with the versions that are installed here: `batchneuron compile`"
_OURS = "this is a bug of ours: please report it"
_NAN = "unset NEURON_FAIL_ON_NAN and NEURON_RT_NUMERICAL_ERRORS_VERBOSITY: such rows are rejected here"
_OTHER_CORE = "its shards are done by others; if it comes again, replace the instance"
# Status to error and hint. What is not here is a DeviceFault: a fresh worker may do it.
_MEANINGS: Mapping[int, tuple[type[BatchNeuronError], str]] = {
    **dict.fromkeys((2, 1002, 1006), (ProgramError, _OURS)),
    1003: (ProgramError, _NAN),
    **dict.fromkeys((4, 11), (DeviceMemoryFull, _FIT)),
    **dict.fromkeys((6, 101, 1200, 1201, 1202, 1203, 1205), (CoreLost, _OTHER_CORE)),
    10: (ArtifactMismatch, _COMPILE_AGAIN),
}
# Headers write EXEC_ before some names that the page writes without it.
_CODES = {name.removeprefix("EXEC_"): code for code, name in NAMES.items()}
_NAME = re.compile(r"\bNRT_(?:EXEC_)?([A-Z][A-Z_]+)")
_NUMBER = re.compile(r"\b(?:nrt_)?status(?:[ _]code)?\s*[:=]?\s*\(?(\d{1,4})\b", re.IGNORECASE)
_BUSY = re.compile(r"NeuronCore\(s\) not available|cannot determine the number of available NeuronCores")
_NO_DRIVER = re.compile(r"Unable to determine Neuron Driver version")
_NO_DEVICE = re.compile(r"Could not open the nd\d+")
_LONGEST = 600


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a runtime error happened."""

    core: str
    """NEURON_RT_VISIBLE_CORES of the process."""
    doing: str
    """`loading 8x128`, `running 8x128`"""
    list_holders: Callable[[], str] = lambda: ""
    """Asked only when a core is taken: the processes that may hold it, as a text."""

    def __str__(self) -> str:
        return f"NeuronCore {self.core or 'of this process'}, {self.doing}"


def find_status(text: str) -> int | None:
    """The NRT status that a message names, or gives as a number; None: neither, or success."""
    for match in _NAME.finditer(text):
        if (code := _CODES.get(match[1])) is not None:
            return code
    numbers = (int(match[1]) for match in _NUMBER.finditer(text))
    return next((number for number in numbers if number in NAMES), None)


def translate(error: Exception, scene: Scene) -> BatchNeuronError:
    """The error to raise for one of the runtime's."""
    text = str(error).strip()
    if _NO_DRIVER.search(text):
        return BackendError(
            "there is no Neuron driver",
            str(scene),
            "install aws-neuronx-dkms on the host; a container needs --device=/dev/neuron0 for each device",
        )
    if match := _NO_DEVICE.search(text):
        return BackendError(
            f"{match[0]}: the device is not there",
            str(scene),
            "a container needs --device=/dev/neuron0, and so on, for each device that it is to use",
        )
    code = find_status(text)
    if code is None and _BUSY.search(text):
        return _describe_busy(scene)
    kind, hint = _MEANINGS.get(code or 0, (DeviceFault, ""))
    named = f"NRT_{NAMES[code]} ({code})" if code is not None else "the runtime failed"
    return kind(f"{named}: {_shorten(text)}", str(scene), hint)


def _describe_busy(scene: Scene) -> DeviceFault:
    holders = scene.list_holders()
    told = f"; on its device: {holders}" if holders else ""
    return DeviceFault(
        f"another process has the core{told}",
        str(scene),
        "a core belongs to one process until that ends: end it, or leave its core out of "
        "NEURON_RT_VISIBLE_CORES",
    )


def _shorten(text: str) -> str:
    """The last line that has a status, or else the end: TorchScript puts its own stack around the message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if find_status(line) is not None]
    chosen = told[-1] if told else " ".join(lines)
    return chosen if len(chosen) <= _LONGEST else f"… {chosen[-_LONGEST:]}"
