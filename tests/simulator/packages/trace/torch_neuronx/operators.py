"""The operators inside a compiled program: load it on a core, take its inputs, give its outputs."""

import itertools
import json
from dataclasses import dataclass

import torch
from simulated_nrt.cores import NO_RUNTIME, Runtime
from simulated_nrt.faults import call_core, read_fault, status_error
from simulated_nrt.machine import ARCHITECTURES, log, read_machine

NOT_LOADED = -1
_DTYPES = {str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
_runtime = Runtime()
_models = {}
_numbers = itertools.count()


@dataclass
class Loaded:
    """A program on a core; `poisoned` are the rows that its call under way turns into NaN."""

    core: int
    facts: dict
    poisoned: list | None


def get_runtime():
    """The runtime of this process."""
    return _runtime


def load(facts):
    """Put a program on the next core; its number."""
    facts = json.loads(facts)
    _runtime.initialize()
    core = _runtime.next_core()
    _require_fit(facts)
    fault = read_fault(f"core-{core}")
    if fault.get("kind") == "load":
        raise status_error("nrt_load", fault["status"], f"nc{core}")
    number = next(_numbers)
    _models[number] = Loaded(core, facts, [])
    log("load", core=core, key=facts["key"])
    return number


def _require_fit(facts):
    machine = read_machine()
    theirs, ours = ARCHITECTURES[facts["target"]], machine.architecture
    legacy = theirs < ours and _runtime.allows_legacy
    if theirs != ours and not legacy:
        raise status_error("nrt_load", 10, f"built for {facts['target']}, this is {machine.family}")
    if machine.has_logical_cores and facts["logical_core_size"] != _runtime.logical_core_size:
        raise status_error("nrt_load", 10, f"built for logical cores of {facts['logical_core_size']}")


def enter(inputs, number):
    """The inputs, after what the runtime checks of them."""
    if number == NOT_LOADED:
        raise RuntimeError(NO_RUNTIME)
    if _runtime.is_forked:
        raise status_error("nrt_execute", 13)
    model = _models[number]
    for position, (tensor, wanted) in enumerate(zip(inputs, model.facts["inputs"], strict=True)):
        _check(tensor, wanted, position)
    model.poisoned = call_core(model.core, _runtime.timeout_s)
    log("call", core=model.core, key=model.facts["key"])
    return list(inputs)


def _check(tensor, wanted, position):
    if list(tensor.shape) != wanted["shape"]:
        raise status_error("nrt_execute", 2, f"input {position} size mismatch")
    if tensor.dtype != _DTYPES[wanted["dtype"]]:
        raise status_error("nrt_execute", 1002, f"input {position}")
    ids = wanted["ids"]
    if ids is not None and (int(tensor.min()) < 0 or int(tensor.max()) >= ids):
        raise status_error("nrt_execute_repeat", 1006, "Out of bounds access on model")


def leave(output, number):
    """An output, as the device gives it back."""
    poisoned = _models[number].poisoned
    if poisoned is None or poisoned:
        output = output.clone()
        output[slice(None) if poisoned is None else poisoned] = float("nan")
    if _runtime.fails_on_nan and output.is_floating_point() and bool(output.isnan().any()):
        raise status_error("nrt_execute_repeat", 1003)
    return output.detach()


_library = torch.library.Library("neuron", "DEF")
for _schema, _function in (
    ("load(str facts) -> int", load),
    ("forward_v2(Tensor[] inputs, int model) -> Tensor[]", enter),
    ("outputs(Tensor output, int model) -> Tensor", leave),
):
    _library.define(_schema)
    _library.impl(_schema.partition("(")[0], _function, "CompositeExplicitAutograd")
