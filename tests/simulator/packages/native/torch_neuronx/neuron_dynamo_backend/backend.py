"""The Dynamo backend: one NEFF per signature, kept in a cache folder, run asynchronously.

Variables: RTD reference of TorchNeuron; what is refused: its torch.compile reference.
"""

import contextlib
import hashlib
import os
import re
import shlex
import tempfile
import warnings
from pathlib import Path

import torch
from simulated_nrt.compiler import VERSION, run_compiler
from simulated_nrt.faults import call_core, read_fault, status_error
from simulated_nrt.machine import log, read_machine

from torch_neuronx import device, tensors

_OPTIONS = {"model_name", "use_tensorizer_backend", "fallback_execution", "optlevel"}
_TRUE = ("1", "true")


def neuron_backend(graph, example_inputs, *, mode="default", options=None):
    """The graph as a program of the device, compiled or found in the cache."""
    if mode != "default":
        warnings.warn(f"mode {mode!r} has no effect", stacklevel=2)
    unknown = set(options or ()) - _OPTIONS
    if unknown:
        warnings.warn(f"options {sorted(unknown)} have no effect", stacklevel=2)
    _require_static(example_inputs)
    key = _make_key(graph, example_inputs)
    try:
        _compile(graph, key)
    except RuntimeError as error:
        if _is_on("TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION", default="1"):
            raise
        warnings.warn(f"runs on the CPU: {error}", stacklevel=2)
        tensors.note_fallback(_list_operators(graph))
        return graph.forward
    return _Program(graph, key)


def _require_static(example_inputs):
    for number, each in enumerate(example_inputs):
        sizes = each.shape if isinstance(each, torch.Tensor) else (each,)
        if any(isinstance(size, torch.SymInt) for size in sizes):
            raise RuntimeError(
                f"[NCC_EMOD025] input {number}: requires all tensor dimensions to be statically sized"
            )
        if isinstance(each, torch.Tensor) and 0 in each.shape:
            raise RuntimeError(f"input {number} is empty: empty tensors are not supported")


def _list_flags():
    flags = ["--model-type", "transformer", "--auto-cast=none"]
    flags += shlex.split(os.environ.get("NEURON_CC_FLAGS", ""))
    return [*flags, os.environ.get("NEURON_COMPILER_OPT_LEVEL", "-O1"), f"--target={_target()}"]


def _target():
    return os.environ.get("NEURON_PLATFORM_TARGET_OVERRIDE") or read_machine().family.removesuffix("u")


def _make_key(graph, example_inputs):
    """Hash of the graph, the inputs' shapes and types, the flags and the compiler."""
    inputs = [f"{each.dtype}{list(each.shape)}" for each in example_inputs if isinstance(each, torch.Tensor)]
    nodes = [f"{node.op} {node.target} {node.args} {node.kwargs}" for node in graph.graph.nodes]
    text = re.sub(" at 0x[0-9a-f]+", "", "\n".join([*nodes, *inputs, *_list_flags(), VERSION]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _compile(graph, key):
    """Find the NEFF, or have it made and keep it."""
    cache = Path(os.environ.get("TORCH_NEURONX_NEFF_CACHE_DIR", "/tmp/neff_cache"))
    neff = cache / f"{key}.neff"
    keeps = not _is_on("TORCH_NEURONX_NEFF_DISABLE_CACHE")
    if keeps and neff.exists():
        log("neff-found", key=key)
        return
    unsupported = set(read_fault("operators").get("unsupported", ())) & set(_list_operators(graph))
    if unsupported:
        raise RuntimeError(f"unsupported operators: {sorted(unsupported)}")
    with _open_workdir(key) as workdir:
        run_compiler(_list_flags(), key, workdir)
    if keeps:
        cache.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=cache)
        os.write(handle, key.encode())
        os.close(handle)
        Path(scratch).replace(neff)


def _open_workdir(key):
    """Where the compiler works and leaves its log: thrown away afterwards unless it is asked for."""
    root = Path(os.environ.get("TORCH_NEURONX_DEBUG_DIR", "/tmp/neuron_backend"))
    root.mkdir(parents=True, exist_ok=True)
    if not _is_on("TORCH_NEURONX_PRESERVE_COMPILATION_ARTIFACTS"):
        return tempfile.TemporaryDirectory(dir=root)
    return contextlib.nullcontext(tempfile.mkdtemp(prefix=f"{key}-", dir=root))


def _list_operators(graph):
    return sorted({getattr(node.target, "__name__", str(node.target)) for node in graph.graph.nodes})


def _is_on(name, default=""):
    return os.environ.get(name, default).lower() in _TRUE


class _Program:
    """A compiled graph; a call starts it, and its errors wait."""

    def __init__(self, graph, key):
        self._graph = graph
        self._key = key

    def __call__(self, *inputs):
        inputs = tuple(self._move(number, each) for number, each in enumerate(inputs))
        if device.compiles_only():
            return self._make_empty()
        device.init()
        core, timeout_s = device.get_core()
        try:
            poisoned = call_core(core, timeout_s)
            made = self._graph(*inputs)
        except IndexError:
            return self._fail(status_error("nrt_execute", 1006, "Out of bounds access on model"))
        except RuntimeError as error:
            if " failed with status " not in str(error):
                raise
            return self._fail(error)
        log("call", core=core, key=self._key)
        if poisoned is None or poisoned:
            for each in made:
                tensors.to_host(each)[slice(None) if poisoned is None else poisoned] = float("nan")
        return made

    def _move(self, number, value):
        if not isinstance(value, torch.Tensor) or tensors.is_on_device(value):
            return value
        if _is_on("TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY"):
            raise RuntimeError(f"Input tensor at index {number} is on cpu device")
        return tensors.to_device(value)

    def _fail(self, error):
        """Nothing of it is seen before the next `synchronize`; until then the outputs hold anything."""
        device.postpone(error)
        return self._make_empty()

    def _make_empty(self):
        last = next(node for node in self._graph.graph.nodes if node.op == "output")
        return tuple(
            tensors.to_device(torch.zeros(tuple(value.shape), dtype=value.dtype))
            for node in last.args[0]
            if (value := node.meta["example_value"]) is not None
        )
