"""What a spec says about precision and compiler, in the compiler's words.

XLA stack: arguments of neuronx-cc, given to `torch_neuronx.trace` (SDK: compiler/neuronx-cc/
api-reference-guide). Native stack: it fixes `--model-type transformer --auto-cast=none` itself and reads the
rest from two variables, so that there precision is the type of the weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from batchneuron.errors import BackendError

_SWITCH = ("true", "false")
_SPELLINGS = {"matmul": "matmult"}  # optimum-neuron's
# On unless it is switched off, and off by a flag of its own; the other switches are off unless they are on.
_ON_BY_DEFAULT = "enable_mixed_precision_accumulation"
# Options a user may set, and their values. Target and logical core size are keys of the spec.
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "optlevel": ("1", "2", "3"),
    "auto_cast": ("none", "matmult", "all"),
    "auto_cast_type": ("bf16", "fp16", "tf32", "fp8_e4m3"),
    "model_type": ("generic", "transformer", "unet-inference"),
    "native_int64": ("default", "enabled", "disabled"),
    "enable_saturate_infinity": _SWITCH,
    "enable_mixed_precision_accumulation": _SWITCH,
    "enable_fast_loading_neuron_binaries": _SWITCH,
    "enable_fast_context_switch": _SWITCH,
}
_ELSEWHERE = {
    "target": "backend.target",
    "logical_nc_config": "backend.logical_core_size",
    "lnc": "backend.logical_core_size",
}
# Set by the native stack before the user's; what is the same for each shape of it.
_FIXED_BY_NATIVE = ("auto_cast", "auto_cast_type", "model_type")
_PROFILES: Mapping[str, Mapping[str, str]] = {
    "float32": {"auto_cast": "none"},
    "bfloat16": {"auto_cast": "matmult", "auto_cast_type": "bf16"},
}
# optimum-neuron compiles these without a model type.
_NO_TRANSFORMERS = frozenset(
    {"hubert", "levit", "mobilenet-v2", "mobilenet_v2", "mobilevit", "unispeech", "unispeech-sat"}
    | {"wav2vec2", "wavlm"}
)
_WITH_LOGICAL_CORES = ("trn2", "trn3")


@dataclass(frozen=True, slots=True)
class Chip:
    """What is compiled for."""

    target: str
    logical_core_size: int


def resolve_options(
    precision: str, chip: Chip, given: Mapping[str, str | int | float | bool]
) -> dict[str, JsonValue]:
    """The compiler's options by name, the user's over those of the precision; part of the fingerprint.

    Raises:
        BackendError: an option or a value that the compiler does not have.
    """
    options: dict[str, JsonValue] = {"optlevel": "2", **_PROFILES[precision]}
    options |= _read_given(given)
    if options["auto_cast"] == "none":
        options.pop("auto_cast_type", None)
    if chip.target in _WITH_LOGICAL_CORES:
        options["logical_core_size"] = chip.logical_core_size
    elif "native_int64" in options:
        raise BackendError(f"{chip.target} has no native_int64", "backend.compiler_args")
    return options


def make_trace_args(options: Mapping[str, JsonValue], chip: Chip, model_type: str | None) -> list[str]:
    """Arguments of neuronx-cc for one model, in a fixed order."""
    named = dict(options)
    size = named.pop("logical_core_size", None)
    if "model_type" not in named and model_type not in _NO_TRANSFORMERS:
        named["model_type"] = "transformer"
    arguments = ["--target", chip.target]
    if size is not None:
        arguments += ["--logical-nc-config", str(size)]
    for name in sorted(named):
        arguments += _write(name, str(named[name]))
    return arguments


def resolve_native_options(chip: Chip, given: Mapping[str, str | int | float | bool]) -> dict[str, JsonValue]:
    """The options by name for the native stack.

    Raises:
        BackendError: an option or a value that it does not have, or that it fixes itself.
    """
    read = _read_given(given)
    if fixed := next((name for name in _FIXED_BY_NATIVE if name in read), None):
        raise BackendError(
            f"the native stack fixes {fixed} itself",
            f"backend.compiler_args.{fixed}",
            "backend.precision chooses the type of weights and arithmetic there",
        )
    return {"optlevel": "2", **read, "logical_core_size": chip.logical_core_size}


def make_native_environment(options: Mapping[str, JsonValue]) -> dict[str, str]:
    """The two variables that the native stack's compiler reads; they are part of a NEFF's key."""
    named = {name: str(value) for name, value in options.items() if name != "logical_core_size"}
    level = named.pop("optlevel")
    flags = [part for name in sorted(named) for part in _write(name, named[name])]
    return {"NEURON_COMPILER_OPT_LEVEL": f"-O{level}", "NEURON_CC_FLAGS": " ".join(flags)}


def _read_given(given: Mapping[str, str | int | float | bool]) -> dict[str, JsonValue]:
    """The user's options, by the names and in the spelling used here."""
    read: dict[str, JsonValue] = {}
    for said, value in given.items():
        name = said.lstrip("-").replace("-", "_")
        where = f"backend.compiler_args.{said}"
        if name in _ELSEWHERE:
            raise BackendError(f"is said by {_ELSEWHERE[name]}", where)
        if name not in _CHOICES:
            near = difflib.get_close_matches(name, _CHOICES, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(_CHOICES)}"
            raise BackendError("the compiler has no such option", where, hint)
        text = str(value).lower()
        text = text.removeprefix("-o") if name == "optlevel" else _SPELLINGS.get(text, text)
        if text not in _CHOICES[name]:
            raise BackendError(f"'{value}' is none of {', '.join(_CHOICES[name])}", where)
        read[name] = text
    return read


def _write(name: str, value: str) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if _CHOICES[name] is _SWITCH:
        if name == _ON_BY_DEFAULT and value == "false":
            return [flag.replace("--enable-", "--disable-")]
        return [flag] if value == "true" else []
    return [flag, value]
