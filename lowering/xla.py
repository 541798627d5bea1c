"""The XLA stack's front end: a program to HLO as `torch_neuronx.trace` does it, and run by XLA on the CPU.

The trace of torch_neuronx moves a module to torch_xla's lazy device, calls it once, lowers what was recorded
with a `LoweringContext`, and hands the HLO module to neuronx-cc. All of that but the compiler is torch_xla's
own, and is what happens here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch_xla
from torch_xla.debug import metrics

from batchneuron.planning.shapes import Shape
from batchneuron.programs.program import Program
from lowering.compare import check_error, measure_error
from lowering.hlo import TYPES, Module
from lowering.outcome import Finding, Outcome
from lowering.rules import check_module, check_number


def lower(program: Program, name: str, shape: Shape, exact: Program | None = None) -> Outcome:
    """Lower the program for that shape, check it, run it, and compare it with eager mode.

    Args:
        program: in float32 or bfloat16.
        name: for the table.
        shape: one of the ladder's.
        exact: the same in float32, for a program in bfloat16: what rounding does to the model is no error.
    """
    inputs = program.example_inputs(shape)
    with torch.inference_mode():
        expected = program(*inputs)
        rounding = 0.0 if exact is None else measure_error(expected, exact(*inputs), "bfloat16")
    precision = "float32" if exact is None else "bfloat16"
    device = torch_xla.device()
    moved = copy.deepcopy(program).to(device)
    given = [tensor.to(device) for tensor in inputs]
    torch_xla.sync()
    metrics.clear_all()
    with torch.no_grad():
        outputs = list(moved(*given))
    findings = [
        Finding("red", f"{counter} leaves the device while it is traced")
        for counter in metrics.counter_names()
        if counter.startswith("aten::")
    ]
    context = torch_xla._XLAC.lowering.LoweringContext()
    context.build(outputs)
    module = Module.parse(context.hlo_json())
    places = [context.tensor_parameter_id(tensor) for tensor in given]
    frozen = {
        number: tensor
        for number, tensor in context.parameter_id_tensor_mapping().items()
        if number not in places
    }
    findings += check_module(module)
    findings += _check_inputs(module, program, shape, places)
    findings += _check_frozen(module, moved, places, frozen)
    findings += _check_results(module, expected)
    error = measure_error([output.cpu() for output in outputs], expected, precision)
    findings += check_error(error, precision, rounding)
    size = sum(module.count_opcodes().values())
    return Outcome("xla", name, str(shape), precision, size, error, tuple(dict.fromkeys(findings)))


def _check_inputs(module: Module, program: Program, shape: Shape, places: Sequence[int]) -> Iterator[Finding]:
    parameters = module.list_parameters()
    for spec, place in zip(program.input_specs(shape), places, strict=True):
        if place < 0:
            yield Finding("red", f"{spec.name} is not used: what it says was frozen, or is not heard")
        elif parameters[place] != (TYPES[getattr(torch, spec.dtype)], spec.shape):
            yield Finding("red", f"{spec} became {parameters[place]}")


def _check_frozen(
    module: Module, moved: Program, places: Sequence[int], frozen: Mapping[int, torch.Tensor]
) -> Iterator[Finding]:
    """Every parameter that is no input is a weight, a buffer, or a number that the model is made with."""
    if unknown := set(module.list_parameters()) - set(places) - set(frozen):
        yield Finding("red", f"{len(unknown)} parameters are neither inputs nor weights")
    held = {(tensor.dtype, tuple(tensor.shape)) for tensor in [*moved.parameters(), *moved.buffers()]}
    names, harmless = module.name_parameters(), module.list_harmless()
    for number, tensor in frozen.items():
        if not tensor.ndim and tensor.is_floating_point() and names.get(number) not in harmless:
            yield from check_number(float(tensor), "a constant")
        elif tensor.ndim > 1 and (tensor.dtype, tuple(tensor.shape)) not in held:
            yield Finding("red", f"a frozen {tensor.dtype} {list(tensor.shape)} that is no weight")


def _check_results(module: Module, expected: Sequence[torch.Tensor]) -> Iterator[Finding]:
    wanted = [(TYPES[tensor.dtype], tuple(tensor.shape)) for tensor in expected]
    if module.list_results() != wanted:
        yield Finding("red", f"results {module.list_results()} instead of {wanted}")
