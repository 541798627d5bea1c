"""The native stack's front end: torch.export, and torch.compile with a backend that counts.

`torch.compile(backend="neuron")` is given the same graphs as any other backend. One that counts them and runs
them as they are shows whether a program is one graph, and stays one over a whole job.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from batchneuron.planning.shapes import Shape
from batchneuron.programs.program import Program
from lowering.compare import check_error, measure_error
from lowering.outcome import Finding, Outcome

_BATCHES = 4  # of each shape; the first compiles
_LOWEST = -3.3e38
# Shapes or branches that follow from values, and what is a sort on the device.
_REFUSED = {"nonzero", "unique", "masked_select", "item", "_local_scalar_dense", "sort", "topk", "argsort"}


def check_export(program: Program, name: str, shape: Shape) -> Outcome:
    """Export the program for one shape, and compare what was exported with eager mode."""
    inputs = program.example_inputs(shape)
    expected = _run(program, inputs)
    try:
        exported = torch.export.export(program, inputs)
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        return Outcome("export", name, str(shape), "float32", 0, math.inf, (_tell(error),))
    made, rounded = (
        measure_error(_run(run, inputs), expected, "float32")
        for run in (exported.module(), _without_lowest(exported))
    )
    findings = [*_check_graph(exported), *check_error(made, "float32")]
    if not rounded <= made + 1e-6:
        findings.append(Finding("red", "masks that are rounded to -infinity give other numbers"))
    size = len(exported.graph.nodes)
    return Outcome("export", name, str(shape), "float32", size, made, tuple(findings))


def check_job(program: Program, name: str, shapes: Sequence[Shape]) -> Outcome:
    """Compile the program for each shape, then run batches of all of them in turn, as a job would."""
    torch._dynamo.reset()
    count = _Counting()
    worst = 0.0
    findings: list[Finding] = []
    try:
        compiled = {
            shape: torch.compile(program, fullgraph=True, dynamic=False, backend=count) for shape in shapes
        }
        for turn in range(_BATCHES):
            with torch.compiler.set_stance("fail_on_recompile" if turn else "default"):
                for shape, run in compiled.items():
                    batch = [tensor.roll(turn, 0) for tensor in program.example_inputs(shape)]
                    worst = max(worst, measure_error(_run(run, batch), _run(program, batch), "float32"))
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        findings.append(_tell(error))
    if count.graphs != len(shapes):
        findings.append(Finding("red", f"{count.graphs} graphs for {len(shapes)} shapes"))
    findings += check_error(worst, "float32")
    told = f"{len(shapes)} of them"
    return Outcome("compile", name, told, "float32", count.graphs, worst, tuple(findings))


def _check_graph(exported: torch.export.ExportedProgram) -> Iterator[Finding]:
    if exported.range_constraints:
        yield Finding("red", f"symbolic dimensions: {exported.range_constraints}")
    for node in exported.graph.nodes:
        if node.op != "call_function":
            continue
        name = getattr(node.target, "_opname", str(node.target))
        if name in _REFUSED:
            yield Finding("red", f"{name} in the graph")
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
            yield Finding("red", f"{name} gives float64")


def _without_lowest(exported: torch.export.ExportedProgram) -> Callable[..., Any]:
    """The same program as a compiler computes it that rounds the lowest float32 to bfloat16: to -infinity."""
    module = exported.module()
    for node in module.graph.nodes:
        node.args = torch.fx.node.map_aggregate(node.args, _to_infinity)
    module.recompile()
    return module


def _to_infinity(argument: Any) -> Any:
    return -math.inf if isinstance(argument, float) and argument < _LOWEST else argument


def _run(program: Callable[..., Any], inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    with torch.inference_mode():
        return list(program(*inputs))


def _tell(error: BaseException) -> Finding:
    return Finding("red", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")


class _Counting:
    """A backend of torch.compile that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: Sequence[torch.Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward
