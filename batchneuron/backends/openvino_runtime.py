"""OpenVINO, opened in the one way this project uses it: nothing sent, nothing left to its defaults.

Property names: docs.openvino.ai, "CPU device", "Supported Properties".
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue

from batchneuron.errors import CompileError
from batchneuron.programs.signature import TensorSpec
from batchneuron.stages.items import Tensor

if TYPE_CHECKING:
    from batchneuron.planning.shapes import Shape
    from batchneuron.programs.program import Program

_TELEMETRY = "openvino_telemetry"
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
_TAIL_CHARACTERS = 400
# Lengths that are read off a traced tensor and kept as numbers give answers that are wrong altogether;
# another order of additions differs in the sixth digit.
_ALIKE = 1e-3


def import_openvino() -> Any:
    """The module `openvino`, silenced.

    Importing it reports the import to Google, without asking, where its dependency `openvino_telemetry` can
    be imported; where it cannot, OpenVINO uses a stub of its own (openvino/tools/ovc/telemetry_utils.py).
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        import openvino

        return openvino
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # documented: its import fails
    try:
        import openvino
    finally:
        del sys.modules[_TELEMETRY]
    return openvino


def make_properties(precision: str, threads: int, wished: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """All that decides speed and bits, said explicitly; `wished` has the last word.

    Two processes that pin their threads choose the same core, so pinning is off: the worker's own CPU mask
    holds it. A cache folder would hold a gigabyte and save a tenth of a second.
    """
    return {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
        **wished,
    }


def compile_model(model: Any, properties: Mapping[str, JsonValue], where: str) -> Any:
    """The model for this CPU, as a request that can be called again and again.

    Raises:
        CompileError: OpenVINO does not take the model, or a property.
    """
    try:
        return import_openvino().Core().compile_model(model, "CPU", dict(properties)).create_infer_request()
    except RuntimeError as error:
        raise CompileError(
            f"OpenVINO cannot compile it: {_shorten(error)}",
            where,
            "take what it names out of backend.compiler_args, or set backend.kind: torch",
        ) from error


def convert(program: Program, shape: Shape) -> Any:
    """The program as an OpenVINO model whose batch and length are open, its inputs named.

    Raises:
        CompileError: OpenVINO has no form for one of its operations, or drops one of its inputs.
    """
    import torch

    from batchneuron.programs.program import quiet_transformers

    openvino = import_openvino()
    failures: tuple[type[Exception], ...] = (RuntimeError, *_conversion_failures(openvino))
    try:
        with warnings.catch_warnings(), quiet_transformers(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing warns of each branch; what it may break is checked
            model = openvino.convert_model(program, example_input=program.example_inputs(shape))
    except failures as error:
        raise _refuse(_shorten(error), shape) from error
    if len(model.inputs) != len(program.input_names):
        raise _refuse("it drops inputs of the program", shape)
    for port, name in zip(model.inputs, program.input_names, strict=True):
        port.get_tensor().set_names({name})
    model.reshape({spec.name: _open_sizes(spec) for spec in program.input_specs(shape)})
    return model


def agrees(model: Any, program: Program, shape: Shape) -> bool:
    """Whether the model gives the program's numbers for a shape, which should not be the traced one."""
    import torch

    inputs = program.example_inputs(shape)
    try:
        made = run(
            compile_model(model, make_properties("float32", 1, {}), f"shape {shape}"),
            [each.numpy() for each in inputs],
        )
    except (CompileError, RuntimeError):
        return False
    with torch.inference_mode():
        expected = [each.numpy() for each in program(*inputs)]
    return all(_are_alike(*pair) for pair in zip(made, expected, strict=True))


def fix(model: Any, inputs: Sequence[TensorSpec]) -> Any:
    """A copy of the model for inputs of just these sizes; the weights are not copied."""
    fixed = model.clone()
    fixed.reshape({spec.name: list(spec.shape) for spec in inputs})
    return fixed


def run(request: Any, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Outputs of one batch; inputs are read where they lie, outputs copied out once."""
    made = request.infer(list(inputs), share_inputs=True)
    return tuple(made.to_tuple())


def _open_sizes(spec: TensorSpec) -> list[int]:
    """Batch and length open (-1), the sizes of an image as they are."""
    return [-1, -1] if len(spec.shape) == 2 else [-1, *spec.shape[1:]]


def _are_alike(made: Tensor, expected: Tensor) -> bool:
    if made.shape != expected.shape:
        return False
    if not np.issubdtype(expected.dtype, np.floating):
        return True  # ranks of scores, where a tie may fall either way
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return bool(np.allclose(made, expected, rtol=0.0, atol=_ALIKE * scale, equal_nan=True))


def _conversion_failures(openvino: Any) -> tuple[type[Exception], ...]:
    names = ("GeneralFailure", "NotImplementedFailure", "OpConversionFailure", "OpValidationFailure")
    return tuple(getattr(openvino.frontend, name) for name in names)


def _refuse(what: str, shape: Shape) -> CompileError:
    return CompileError(f"OpenVINO cannot convert it: {what}", f"shape {shape}", "set backend.kind: torch")


def _shorten(error: Exception) -> str:
    """The last lines of a message that begins with source lines of OpenVINO."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check "))]
    return " ".join(told or lines)[-_TAIL_CHARACTERS:]
