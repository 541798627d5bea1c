"""The torch backend: eager PyTorch on the CPU, the reference that every other backend is held against.

One thread per worker, always: matrix products split over another number of threads may differ in
their last bits, and a row must have the same bits for any number of workers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from batchneuron.backends.backend import BackendFacts, CompileRequest, Core
from batchneuron.backends.machine import cpu_target, list_cpus
from batchneuron.model import Model
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import require_inputs
from batchneuron.spec.sections import BackendSpec, ModelSpec
from batchneuron.stages.items import Tensor

if TYPE_CHECKING:
    from batchneuron.programs.program import Program

_RECIPE = "program.json"
_INTERPRETER_BYTES = 700 << 20  # Python, torch, transformers, a shard's rows
_BATCH_SLOTS = 2048
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True, slots=True)
class TorchExecutable:
    """A program in eager mode, held to one shape."""

    program: Program
    shape: Shape

    @property
    def least_rows(self) -> int:
        """All that the shape has."""
        return self.shape.batch_size

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs it takes, in order."""
        return self.program.input_names

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs [B, …] of inputs [B, …], in the order of `input_names`.

        Raises:
            ProgramError: an input is of another shape or type.
        """
        import torch

        require_inputs(self.program.input_specs(self.shape), inputs, f"shape {self.shape}")
        with torch.inference_mode():
            outputs = self.program(*(torch.from_numpy(tensor) for tensor in inputs))
        return tuple(output.numpy() for output in outputs)


@dataclass(slots=True)
class TorchBackend:
    """Eager PyTorch, float32 or bfloat16."""

    backend_spec: BackendSpec
    model_spec: ModelSpec
    threads: int = 1
    """Of this process; with more of them bits depend on how many there are."""
    _programs: dict[Path, Program] = field(default_factory=dict)

    @property
    def facts(self) -> BackendFacts:
        """Kind, instruction set, precision and library versions."""
        names = ("torch", "transformers", "tokenizers")
        return BackendFacts(
            kind="torch",
            target=cpu_target(),
            precision=self._precision,
            versions={name: version(name) for name in names},
            compiler_args=dict(self.backend_spec.compiler_args),
            batch_slots=_BATCH_SLOTS,
            compiles_per_shape=False,
            is_reference=self._precision == "float32",
        )

    @property
    def _precision(self) -> str:
        wished = self.backend_spec.precision
        return self.model_spec.dtype if wished == "auto" else wished

    def list_cores(self) -> tuple[Core, ...]:
        """One core per CPU."""
        return tuple(Core(index, (cpu,), _ONE_THREAD) for index, cpu in enumerate(list_cpus()))

    def memory_per_worker_bytes(self, model: Model) -> int:
        """The interpreter, and the weights with room for activations."""
        weights = sum(path.stat().st_size for path in model.folder.glob("*.safetensors"))
        return _INTERPRETER_BYTES + 2 * weights

    def compile_needs(self, model: Model) -> None:
        """Nothing: eager mode does not compile."""

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        """Write the recipe; eager mode has nothing to compile, and the weights stay where they are."""
        recipe = {"task": request.task, "options": dict(request.options), "model": request.model.digest}
        (folder / _RECIPE).write_text(json.dumps(recipe, indent=2))

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> TorchExecutable:
        """The program of that recipe; its weights are shared by all shapes."""
        if folder not in self._programs:
            self._programs[folder] = self._load_program(request)
        return TorchExecutable(self._programs[folder], shape)

    def _load_program(self, request: CompileRequest) -> Program:
        import torch

        from batchneuron.programs.program import load_program

        torch.set_num_threads(self.threads)
        return load_program(request, self._precision)
