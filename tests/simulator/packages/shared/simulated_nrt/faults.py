"""What a core or the compiler is told to do wrong: `faults/core-3.json`, `faults/compiler.json`."""

import json
import os
import signal
import time

from simulated_nrt.machine import count, log, state_folder

LONGEST_WAIT_S = 600.0
STATUS_NAMES = {
    1: "FAILURE",
    2: "INVALID",
    4: "RESOURCE",
    5: "TIMEOUT",
    6: "HW_ERROR",
    7: "QUEUE_FULL",
    9: "LOAD_NOT_ENOUGH_NC",
    10: "UNSUPPORTED_NEFF_VERSION",
    11: "FAIL_HOST_MEM_ALLOC",
    13: "UNINITIALIZED",
    101: "EXEC_UNIT_UNRECOVERABLE",
    1002: "EXEC_BAD_INPUT",
    1003: "EXEC_COMPLETED_WITH_NUM_ERR",
    1004: "EXEC_COMPLETED_WITH_ERR",
    1005: "EXEC_NC_BUSY",
    1006: "EXEC_OOB",
    1200: "HW_ERR_COLLECTIVES",
    1201: "HW_ERR_HBM_UE",
    1202: "HW_ERR_NC_UE",
    1203: "HW_ERR_DMA_ABORT",
    1204: "SW_NQ_OVERFLOW",
    1205: "HW_ERR_REPAIRABLE_HBM_UE",
}


def status_error(call, status, detail=""):
    """What Python sees of an NRT status: text, and nothing but text."""
    more = f": {detail}" if detail else ""
    return RuntimeError(f"{call} failed with status {status} (NRT_{STATUS_NAMES[status]}){more}")


def read_fault(name):
    """The fault of that name, or nothing."""
    try:
        return json.loads((state_folder() / "faults" / f"{name}.json").read_text())
    except FileNotFoundError:
        return {}


def is_due(name, fault, number):
    """Whether a fault that starts at `at` and happens `times` times (None: for ever) happens now."""
    if not fault or number < fault.get("at", 1):
        return False
    times, fired = fault.get("times", 1), count(f"{name}.fired")
    return times is None or fired <= times


def call_core(core, timeout_s):
    """Count one execution on a core and do what its fault says.

    Returns the rows of the batch that become NaN, None for all of them, or an empty list.
    """
    name = f"core-{core}"
    number = count(f"{name}.calls")
    fault = read_fault(name)
    if fault.get("kind") == "busy" or not is_due(name, fault, number):
        return []
    log("fault", core=core, call=number, kind=fault["kind"])
    match fault["kind"]:
        case "status":
            raise status_error("nrt_execute_repeat", fault["status"], f"nc{core}")
        case "hang":
            time.sleep(timeout_s)
            raise status_error("nrt_execute_repeat", 5, f"nc{core} after {timeout_s} s")
        case "nan":
            return fault.get("rows")
        case "wait":
            wait_for(fault["until"], fault.get("number", 1))
            return []
        case kind:
            die(kind)
            raise ValueError(kind)


def is_busy(core):
    """Whether a core is refused although no simulated process holds it."""
    name = f"core-{core}"
    fault = read_fault(name)
    claims = count(f"{name}.claims")
    return fault.get("kind") == "busy" and is_due(name, fault, claims)


def wait_for(counter, number):
    """Until something has been counted so often, by any process."""
    path, end = state_folder() / "counts" / counter, time.monotonic() + LONGEST_WAIT_S
    while (not path.exists() or path.stat().st_size < number) and time.monotonic() < end:
        time.sleep(0.2)


def die(kind):
    """End this process as `kind` says, where it does."""
    if kind in ("kill", "segfault"):
        os.kill(os.getpid(), signal.SIGKILL if kind == "kill" else signal.SIGSEGV)
