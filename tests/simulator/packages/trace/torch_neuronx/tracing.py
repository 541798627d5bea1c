"""`trace`: the signature and the refusals of the SDK's page, and a TorchScript module with its refusals."""

import hashlib
import importlib.util
import json
import shlex
import tempfile
from pathlib import Path

import torch
from simulated_nrt.compiler import CompilerRefused, parse_flags, run_compiler
from simulated_nrt.cores import NO_RUNTIME
from simulated_nrt.machine import read_machine

from torch_neuronx.operators import NOT_LOADED, get_runtime

_CASTS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def trace(
    func,
    example_inputs,
    *_,
    input_output_aliases={},  # noqa: B006  # the real signature
    compiler_workdir=None,
    compiler_args=None,
    partitioner_config=None,
    inline_weights_to_neff=True,
    cpu_backend=False,
):
    """A program for inputs of these shapes and types, loaded on a core unless `cpu_backend`."""
    if _ or input_output_aliases or partitioner_config is not None or not inline_weights_to_neff:
        raise NotImplementedError(
            "the simulator has the keywords func, example_inputs, compiler_*, cpu_backend"
        )
    if importlib.util.find_spec("neuronx_cc") is None:
        raise ModuleNotFoundError("No module named 'neuronx_cc'", name="neuronx_cc")
    inputs = _list_inputs(example_inputs)
    if isinstance(func, torch.nn.Module) and any(module.training for module in func.modules()):
        raise RuntimeError("the module is in training mode")
    words = shlex.split(compiler_args) if isinstance(compiler_args, str) else list(compiler_args or ())
    facts = _make_facts(words, cpu_backend)
    if not cpu_backend:
        get_runtime().initialize()
    body, limits = _trace_body(func, inputs, facts.pop("autocast"))
    facts["inputs"] = [
        {"shape": list(tensor.shape), "dtype": str(tensor.dtype), "ids": limits[number]}
        for number, tensor in enumerate(inputs)
    ]
    facts["key"] = hashlib.sha256(json.dumps([facts, words, body.code, _digest(func)]).encode()).hexdigest()[
        :16
    ]
    workdir = Path(compiler_workdir or tempfile.mkdtemp(prefix="neuronx-cc-"))
    workdir.mkdir(parents=True, exist_ok=True)
    run_compiler(words, facts["key"], workdir)
    return _wrap(body, json.dumps(facts), is_loaded=not cpu_backend)


def _list_inputs(example_inputs):
    inputs = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else example_inputs
    if not isinstance(inputs, (tuple, list)) or not all(isinstance(each, torch.Tensor) for each in inputs):
        raise ValueError("example_inputs must be a tensor, or a tuple or list of tensors")
    return tuple(inputs)


def _make_facts(words, cpu_backend):
    """What the compiler is asked for; flags that it will refuse are left to it."""
    machine = read_machine()
    try:
        flags = parse_flags(words)
    except CompilerRefused:
        flags = {"--target": machine.family or "trn1"}
    if cpu_backend and "--target" not in flags:
        raise RuntimeError("cpu_backend=True requires --target in compiler_args")
    if not cpu_backend and not machine.family:
        raise RuntimeError(NO_RUNTIME)
    cast = flags.get("--auto-cast", "none")
    return {
        "target": flags.get("--target", machine.family),
        "logical_core_size": int(flags.get("--logical-nc-config", 2)),
        "autocast": _CASTS.get(flags.get("--auto-cast-type", "bf16")) if cast != "none" else None,
    }


def _trace_body(func, inputs, autocast):
    """The traced module, and for each input the rows of the embedding that it is an index into, if any."""
    limits = [None] * len(inputs)

    def note(module, arguments):
        for number, each in enumerate(inputs):
            if arguments and arguments[0] is each:
                limits[number] = module.num_embeddings

    modules = func.modules() if isinstance(func, torch.nn.Module) else ()
    embeddings = [each for each in modules if isinstance(each, torch.nn.Embedding)]
    hooks = [each.register_forward_pre_hook(note) for each in embeddings]
    with torch.no_grad():
        func(*inputs)
        for hook in hooks:
            hook.remove()
        with torch.autocast("cpu", autocast, enabled=autocast is not None, cache_enabled=False):
            return torch.jit.trace(func, inputs, check_trace=False), limits


def _digest(func):
    if not isinstance(func, torch.nn.Module):
        return ""
    digest = hashlib.sha256()
    for name, tensor in sorted(func.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(
            tensor.detach().contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        )
    return digest.hexdigest()


class _Handle(torch.nn.Module):
    """What a program is, and its number on this process's cores: loaded when TorchScript makes it."""

    def __init__(self, facts, is_loaded):
        super().__init__()
        self.facts = facts
        self.model = torch.ops.neuron.load(facts) if is_loaded else NOT_LOADED

    @torch.jit.export
    def __getstate__(self):
        return (self.facts, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.facts = state[0]
        self.training = state[1]
        self.model = torch.ops.neuron.load(state[0])


class _Program(torch.nn.Module):
    def __init__(self, body, handle):
        super().__init__()
        self.body = body
        self.handle = handle


def _wrap(body, facts, is_loaded):
    """The traced module between the operators; its inputs have names of TorchScript's own, as in reality."""
    program = torch.jit.script(_Program(body, torch.jit.script(_Handle(facts, is_loaded))))
    names = [f"tensor_{number}" for number, _ in enumerate(json.loads(facts)["inputs"])]
    entered = ", ".join(f"entered[{number}]" for number, _ in enumerate(names))
    program.define(
        f"def forward(self, {', '.join(names)}):\n"
        f"    model = self.handle.model\n"
        f"    entered = torch.ops.neuron.forward_v2([{', '.join(names)}], model)\n"
        f"    made = self.body({entered})\n"
        f"    return {_give_back(next(body.graph.outputs()).type())}\n"
    )
    return program.eval()


def _give_back(type_):
    """TorchScript source that passes each output through the operator."""
    if isinstance(type_, torch.TensorType):
        return "torch.ops.neuron.outputs(made, model)"
    if isinstance(type_, torch.TupleType) and all(isinstance(e, torch.TensorType) for e in type_.elements()):
        each = [f"torch.ops.neuron.outputs(made[{i}], model)" for i, _ in enumerate(type_.elements())]
        return f"({', '.join(each)},)"
    if isinstance(type_, torch.ListType):
        return "[torch.ops.neuron.outputs(each, model) for each in made]"
    if isinstance(type_, torch.DictType):
        return "{name: torch.ops.neuron.outputs(made[name], model) for name in made.keys()}"
    raise RuntimeError(f"an output of type {type_} is not supported")
