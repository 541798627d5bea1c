"""The backend of the XLA stack, for Inf2 and Trn1: `torch_neuronx.trace`, one TorchScript file per shape.

Compiling never claims a core, not even where there are some: `cpu_backend=True` with `--target` compiles on
any host, whereas a trace without it loads the program onto a core at once, and would take that core from a
worker, or fail where they are all taken (SDK: api-torch-neuronx-trace). So an artifact does not depend on
where it was compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchneuron.backends.backend import BackendFacts, CompileNeeds, CompileRequest, Core, Executable
from batchneuron.backends.guard import Guard
from batchneuron.backends.neuron_failure import describe_failure, find_log
from batchneuron.backends.neuron_flags import make_trace_args, resolve_options
from batchneuron.backends.neuron_host import COMPILER, NeuronHost, compiler_bytes
from batchneuron.backends.neuron_signature import measure_signature, read_signature
from batchneuron.backends.neuron_status import Scene, translate
from batchneuron.backends.neuron_workers import borrow_environment, tool_path
from batchneuron.model import Model
from batchneuron.planning.shapes import Shape
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages.items import Tensor

if TYPE_CHECKING:
    from batchneuron.programs.program import Program

_PROGRAM = "model.pt"
_LOG = "compile.log"
_INTERPRETER_BYTES = 1500 << 20  # Python, torch, torch_neuronx, transformers, a shard's rows
# optimum-neuron's table: the platform's name for each family without a device.
_PLATFORM = {"inf2": "trn1", "trn1": "trn1", "trn1n": "trn1", "trn2": "trn2"}


@dataclass(frozen=True, slots=True)
class TraceBackend:
    """torch_neuronx.trace, float32 or with bfloat16 matrix products."""

    host: NeuronHost
    model_spec: ModelSpec

    @property
    def facts(self) -> BackendFacts:
        """Kind, chip, precision, versions and the compiler's options."""
        return BackendFacts(
            kind="neuron-trace",
            target=self.host.target,
            precision=self._precision,
            versions=self.host.versions,
            compiler_args=resolve_options(self._precision, self.host.chip, self.host.spec.compiler_args),
            batch_slots=self.host.batch_slots,
            compiles_per_shape=True,
            cost=self.host.estimate_cost(self._precision, shares_weights=False),
            # torch.jit.load needs torch_neuronx and the runtime alone (SDK: api-torch-neuronx-trace).
            missing_compiler=COMPILER if self.host.runs_only else None,
        )

    @property
    def _precision(self) -> str:
        wished = self.host.spec.precision
        return "bfloat16" if wished == "auto" else wished

    def list_cores(self) -> tuple[Core, ...]:
        """One worker per NeuronCore that is ours."""
        return self.host.list_workers({})

    def memory_per_worker_bytes(self, model: Model) -> int:
        """The interpreter, and a copy of the weights for a few shapes: each program has its own."""
        return _INTERPRETER_BYTES + 4 * model.weights_bytes

    def compile_needs(self, model: Model) -> CompileNeeds:
        """Several GB, and an environment that looks for no device."""
        return CompileNeeds(compiler_bytes(model), self._compile_environment())

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        """Trace the program on the host and write it, its signature and the compiler's log."""
        self.host.require_stack(for_compiling=True)
        with borrow_environment(self._compile_environment()):
            self._compile(request, shape, folder)

    def _compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        import torch

        from batchneuron.programs.program import load_program

        program = load_program(request, self.model_spec.dtype)
        signature = measure_signature(program, shape)  # a model that fails fails here, with its own words
        workdir = Path(tempfile.mkdtemp(prefix="batchneuron-neuronx-cc-"))
        traced = self._trace(program, shape, request, workdir)
        torch.jit.save(traced, str(folder / _PROGRAM))
        signature.write(folder)
        if log := find_log(workdir):
            shutil.copyfile(log, folder / _LOG)
        shutil.rmtree(workdir, ignore_errors=True)

    def _trace(self, program: Program, shape: Shape, request: CompileRequest, workdir: Path) -> Any:
        """The traced module; the work folder stays where this fails.

        Raises:
            CompileError: the compiler failed.
        """
        import torch_neuronx

        model_type = request.model.config.get("model_type")
        arguments = make_trace_args(self.facts.compiler_args, self.host.chip, model_type)
        inputs = program.example_inputs(shape)
        try:
            return torch_neuronx.trace(
                program, inputs, compiler_workdir=str(workdir), compiler_args=arguments, cpu_backend=True
            )
        except (RuntimeError, ValueError, TypeError, OSError, subprocess.SubprocessError) as error:
            raise describe_failure(error, shape, workdir) from error

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> Executable:
        """The program on this process's core.

        Raises:
            ArtifactMismatch: it is of another runtime.
            DeviceFault: the core is taken, or failed.
        """
        self.host.require_stack()
        self.host.adopt_worker({})
        signature = read_signature(folder)
        call, _ = load_script(folder / _PROGRAM, self.host.describe_scene("loading", shape))
        return Guard(call, shape, signature.inputs, signature.outputs)

    def _compile_environment(self) -> Mapping[str, str]:
        target = self.host.target
        return {
            "NEURON_PLATFORM_TARGET_OVERRIDE": _PLATFORM.get(target, target),
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
            "PATH": tool_path(os.environ),
        }


def load_script(path: Path, scene: Scene) -> tuple[Callable[..., tuple[Tensor, ...]], int]:
    """A function of numpy arrays that runs a TorchScript file with a Neuron program, and how many it takes.

    Raises:
        BatchNeuronError: whatever the runtime's failure means.
    """
    import torch
    import torch_neuronx  # noqa: F401  # registers the classes that the file is made of

    try:
        module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise translate(error, scene) from error
    running = Scene(scene.core, scene.doing.replace("loading", "running"), scene.list_holders)

    def call(*inputs: Tensor) -> tuple[Tensor, ...]:
        try:
            with torch.no_grad():
                outputs = module(*(torch.from_numpy(tensor) for tensor in inputs))
        except RuntimeError as error:
            raise translate(error, running) from error
        flat = (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
        return tuple(output.cpu().numpy() for output in flat)

    return call, len(list(module.graph.inputs())) - 1  # the first is the module itself
