"""The cpu backend: OpenVINO, bfloat16 where the CPU multiplies it, in workers that need no torch.

The program is converted once, with batch and length left open; that one artifact serves every shape, so the
disk holds the weights once, and a worker compiles a shape from it in a fraction of a second. Thread count,
batch size and padding do not change a row's bits (measured: docs/cpu.md), so CPUs that have no worker of
their own, because memory ends before them, are given to those there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import JsonValue

from batchneuron.backends.backend import BackendFacts, CompileNeeds, CompileRequest, Core
from batchneuron.backends.cpu_memory import choose_layout, estimate_bytes, is_lean, is_open, weights_bytes
from batchneuron.backends.machine import cpu_target, has_bfloat16, list_cpus
from batchneuron.backends.openvino_runtime import (
    agrees,
    compile_model,
    convert,
    fix,
    import_openvino,
    make_properties,
    run,
)
from batchneuron.errors import BackendError
from batchneuron.model import Model
from batchneuron.planning.cost import DeviceCost
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import TensorSpec, require_inputs
from batchneuron.spec.sections import BackendSpec, ModelSpec
from batchneuron.stages.items import Tensor

_MODEL = "program.xml"
_SIGNATURE = "program.json"
_VERSIONS = ("openvino", "torch", "transformers", "tokenizers")
_BATCH_SLOTS = 2048
_OPEN_BATCH_SLOTS = 1024  # as fast as 2,048 on Zen 4, where a call's own time is 2 % of it
# One thread: MiniLM reached 0.15 TFLOP/s in float32 and 0.54 in bfloat16 with AMX, 0.17 without; a shape of a
# two-layer model was compiled in 0.1 s. With open shapes, a fit over twelve shapes of MiniLM: 1.7 ms a call,
# 0.19 and 0.14 TFLOP/s in slots and pairs (bfloat16), and 2 to 8 ms more for the first batch of each size;
# attention of lengths such as 40 and 72 takes 5 µs a slot more than that of 48 and 64, in both precisions.
_COST = DeviceCost(per_call_s=0.0002, flop_per_s=2e11, compile_s=0.1)
_OPEN_COST = replace(_COST, per_call_s=0.0017, compile_s=0.005, partial_s=0.004, uneven_tokens=112)
_STATIC_SHAPES, _OPEN_SHAPES = 8, 32
_CONVERTER_BYTES = 1 << 30  # Python, torch, transformers
_QUIET = {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


@dataclass(frozen=True, slots=True)
class Signature:
    """What an artifact says of itself beside the model."""

    inputs: tuple[tuple[str, tuple[int, ...] | None], ...]
    """Name, and for images the sizes behind the batch; None: tokens, int64 [B, L]"""
    is_open: bool
    """False: the program cannot be converted for all shapes at once, and each worker does it for each."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, in order."""
        return tuple(name for name, _ in self.inputs)

    def specs(self, shape: Shape) -> tuple[TensorSpec, ...]:
        """The inputs of one shape."""
        return tuple(
            TensorSpec(name, (shape.batch_size, shape.sequence_length), "int64")
            if sizes is None
            else TensorSpec(name, (shape.batch_size, *sizes), "float32")
            for name, sizes in self.inputs
        )


@dataclass(frozen=True, slots=True)
class OpenVinoExecutable:
    """A compiled model, held to one shape, or to any number of rows up to it."""

    shape: Shape
    signature: Signature
    request: Any
    least_rows: int

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs it takes, in order."""
        return self.signature.names

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs [B, …] of inputs [B, …], in the order of `input_names`.

        Raises:
            ProgramError: an input is of another shape or type.
        """
        rows = min(max(len(inputs[0]), self.least_rows), self.shape.batch_size) if inputs else 0
        require_inputs(
            self.signature.specs(replace(self.shape, batch_size=rows)), inputs, f"shape {self.shape}"
        )
        return run(self.request, inputs)


@dataclass(slots=True)
class OpenVinoBackend:
    """OpenVINO on the CPU, float32 or bfloat16."""

    backend_spec: BackendSpec
    model_spec: ModelSpec
    _models: dict[Path, Any] = field(default_factory=dict)
    """Converted models, their weights mapped: one mapping for all shapes."""
    _open_requests: dict[Path, Any] = field(default_factory=dict)
    """Of models that stay open: one for all shapes."""

    @property
    def facts(self) -> BackendFacts:
        """Kind, instruction set, precision and library versions."""
        return BackendFacts(
            kind="cpu",
            target=f"{cpu_target()}-lean" if is_lean() else cpu_target(),
            precision=self._precision,
            versions={name: version(name) for name in _VERSIONS},
            compiler_args=dict(self.backend_spec.compiler_args),
            batch_slots=_OPEN_BATCH_SLOTS if is_open() else _BATCH_SLOTS,
            compiles_per_shape=False,
            # Large models in float32 keep their shapes open, and then a shape that is shorter than a vector
            # register differs in the last bit from one that is not (docs/cpu.md).
            is_bit_stable_across_shapes=self._precision == "bfloat16",
            cost=_OPEN_COST if is_open() else _COST,
            max_shapes=_OPEN_SHAPES if is_open() else _STATIC_SHAPES,
        )

    @property
    def _precision(self) -> str:
        wished = self.backend_spec.precision
        if wished != "auto":
            return wished
        return "bfloat16" if has_bfloat16() else "float32"

    def list_cores(self) -> tuple[Core, ...]:
        """One core per CPU."""
        return tuple(Core(index, (cpu,), _QUIET) for index, cpu in enumerate(list_cpus()))

    def memory_per_worker_bytes(self, model: Model) -> int:
        """What eight shapes take, in the layout that this model gets."""
        return estimate_bytes(weights_bytes(model.folder), self._precision, self._layout(model))

    def compile_needs(self, model: Model) -> CompileNeeds:
        """Torch, and the weights in torch, in the converted model and on their way to disk."""
        return CompileNeeds(_CONVERTER_BYTES + 4 * weights_bytes(model.folder), _QUIET)

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        """Convert the program with open shapes, hold it against torch at another shape, and save it.

        Where it does not agree, because the architecture reads a length while it is traced, only the
        signature is saved.

        Raises:
            CompileError: OpenVINO cannot convert it.
        """
        self._require_bfloat16()
        program = self._load_program(request)
        # Small, and unlike the shape that it is checked at.
        traced = Shape(3, max(2, min(16, shape.sequence_length // 2)))
        model = convert(program, traced)
        is_open = agrees(model, program, Shape(2, shape.sequence_length))
        if is_open:
            import_openvino().save_model(model, folder / _MODEL, compress_to_fp16=False)
        inputs = [
            [spec.name, None if spec.dtype == "int64" else spec.shape[1:]]
            for spec in program.input_specs(shape)
        ]
        (folder / _SIGNATURE).write_text(json.dumps({"inputs": inputs, "is_open": is_open}, indent=2))

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> OpenVinoExecutable:
        """The artifact compiled for that shape, its weights packed by a first inference.

        Raises:
            CompileError: OpenVINO does not take it, or an entry of compiler_args.
        """
        self._require_bfloat16()
        signature = _read_signature(folder / _SIGNATURE)
        inputs, least_rows = signature.specs(shape), shape.batch_size
        if not signature.is_open:
            model = fix(convert(self._load_program(request), shape), inputs)
            compiled = compile_model(model, self._properties, f"shape {shape}")
        elif self._layout(request.model) == "static":
            compiled = compile_model(fix(self._read(folder), inputs), self._properties, f"shape {shape}")
        elif folder in self._open_requests:
            return OpenVinoExecutable(shape, signature, self._open_requests[folder], 1)
        else:
            compiled, least_rows = compile_model(self._read(folder), self._properties, "shapes left open"), 1
            self._open_requests[folder] = compiled
        run(compiled, [_fill(spec) for spec in inputs])
        return OpenVinoExecutable(shape, signature, compiled, least_rows)

    @property
    def _properties(self) -> Mapping[str, JsonValue]:
        return make_properties(self._precision, len(list_cpus()), self.backend_spec.compiler_args)

    def _layout(self, model: Model) -> Any:
        return choose_layout(weights_bytes(model.folder), self._precision, is_open=is_open())

    def _read(self, folder: Path) -> Any:
        if folder not in self._models:
            self._models[folder] = import_openvino().Core().read_model(folder / _MODEL)
        return self._models[folder]

    def _load_program(self, request: CompileRequest) -> Any:
        from batchneuron.programs.program import load_program

        # Weights of another type are rounded to it, as the spec says, and read as float32 from there on.
        return load_program(request, self.model_spec.dtype).float()

    def _require_bfloat16(self) -> None:
        """Refuse a precision that OpenVINO would quietly replace by float32.

        Raises:
            BackendError: the CPU has no bfloat16.
        """
        if self._precision == "bfloat16" and not has_bfloat16():
            raise BackendError(
                f"bfloat16 on {cpu_target()}, which does not multiply it",
                "backend.precision",
                "leave it at auto, or set float32",
            )


def _read_signature(path: Path) -> Signature:
    known = json.loads(path.read_text())
    inputs = tuple((name, None if sizes is None else tuple(sizes)) for name, sizes in known["inputs"])
    return Signature(inputs, known["is_open"])


def _fill(spec: TensorSpec) -> Tensor:
    """An input of a first batch: every token a real one, every id 0."""
    make = np.ones if spec.name == "attention_mask" else np.zeros
    filled: Tensor = make(spec.shape, dtype=spec.dtype)
    return filled
