"""The backend of the native stack, for Trn2 and Trn3: torch.compile, and a NEFF cache as the artifact.

Compiled once, in a process that may not run anything (TORCH_NEURONX_COMPILE_ONLY), into a cache whose files
become the artifact. A worker links them into a cache of its own before it imports torch, so that its
torch.compile finds every program there (RTD: torch/compile/reference-torch-compile).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from batchneuron.backends.backend import BackendFacts, CompileNeeds, CompileRequest, Core, Executable
from batchneuron.backends.guard import Guard
from batchneuron.backends.neuron_failure import describe_failure, find_log
from batchneuron.backends.neuron_flags import make_native_environment, resolve_native_options
from batchneuron.backends.neuron_host import NeuronHost, compiler_bytes
from batchneuron.backends.neuron_neffs import collect_neffs, link_neffs, list_compiled
from batchneuron.backends.neuron_program import NativeProgram
from batchneuron.backends.neuron_signature import Signature, measure_signature, read_signature
from batchneuron.backends.neuron_workers import tool_path
from batchneuron.errors import CompileError
from batchneuron.model import Model
from batchneuron.planning.shapes import Shape
from batchneuron.user_cache import user_cache

if TYPE_CHECKING:
    from batchneuron.programs.program import Program

_LOG = "compile.log"
_INTERPRETER_BYTES = 2000 << 20  # Python, torch, torch_neuronx, transformers, a shard's rows
_CACHE = "TORCH_NEURONX_NEFF_CACHE_DIR"
_LOCAL_CACHE = "TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR"
_COMPILE_ONLY = "TORCH_NEURONX_COMPILE_ONLY"
_DEBUG_DIR = "TORCH_NEURONX_DEBUG_DIR"
_KEEP_LOGS = "TORCH_NEURONX_PRESERVE_COMPILATION_ARTIFACTS"
# Said in so many words, because the defaults changed between releases.
_STRICT = {
    "TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION": "1",
    "TORCH_NEURONX_DYNAMO_DISABLE_CPU_AUTOCOPY": "1",
    "TORCH_NEURONX_NEFF_DISABLE_CACHE": "0",  # the artifact is what is in the cache
}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NativeBackend:
    """torch.compile for NeuronCores, weights and arithmetic in float32 or bfloat16."""

    host: NeuronHost
    _programs: dict[str, NativeProgram] = field(default_factory=dict)

    @property
    def facts(self) -> BackendFacts:
        """Kind, chip, precision, versions and the compiler's options."""
        return BackendFacts(
            kind="neuron",
            target=self.host.target,
            precision=self._precision,
            versions=self.host.versions,
            compiler_args=resolve_native_options(self.host.chip, self.host.spec.compiler_args),
            batch_slots=self.host.batch_slots,
            compiles_per_shape=True,
            cost=self.host.estimate_cost(self._precision, shares_weights=True),
        )

    @property
    def _precision(self) -> str:
        wished = self.host.spec.precision
        return "bfloat16" if wished == "auto" else wished

    def list_cores(self) -> tuple[Core, ...]:
        """One worker per logical NeuronCore that is ours."""
        return self.host.list_workers(self._worker_environment())

    def memory_per_worker_bytes(self, model: Model) -> int:
        """The interpreter, and the weights on their way to the device, where all shapes share them."""
        return _INTERPRETER_BYTES + 2 * model.weights_bytes

    def compile_needs(self, model: Model) -> CompileNeeds:
        """Several GB, and an environment in which nothing is run."""
        return CompileNeeds(compiler_bytes(model), self._compile_environment())

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        """Compile the program for one shape, and write its NEFFs, its signature and the compiler's log.

        In a process of its own, with the environment of `compile_needs`, nothing is run and no core claimed.
        In any other, which is a notebook that runs the program next, it is compiled by running it.

        Raises:
            CompileError: the compiler failed, or left nothing.
        """
        self.host.require_stack(for_compiling=True)
        workdir = Path(tempfile.mkdtemp(prefix="batchneuron-neuronx-cc-"))
        if _COMPILE_ONLY in os.environ:
            cache = workdir / "neff"
            os.environ.update({_CACHE: str(cache), _LOCAL_CACHE: str(workdir / "local")})
            os.environ.update({_DEBUG_DIR: str(workdir / "debug"), _KEEP_LOGS: "1"})
        else:
            self.host.adopt_worker(self._worker_environment())
            cache = Path(os.environ[_CACHE])  # this core's own, whatever a user had set
            shutil.rmtree(cache, ignore_errors=True)  # so that all that is there then is this program's
        signature = self._compile_once(request, shape, workdir)
        if not collect_neffs(cache, folder):
            raise CompileError(
                "the compiler left no program in its cache", f"shape {shape}, {cache}", "see its log there"
            )
        signature.write(folder)
        if log := find_log(workdir):
            shutil.copyfile(log, folder / _LOG)
        shutil.rmtree(workdir, ignore_errors=True)

    def _compile_once(self, request: CompileRequest, shape: Shape, workdir: Path) -> Signature:
        program = self._load_program(request)
        signature = measure_signature(program, shape)  # a model that fails fails here, with its own words
        try:
            NativeProgram(program).warm(shape)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise describe_failure(error, shape, workdir) from error
        return signature

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> Executable:
        """The program on this process's core, run once.

        Raises:
            BackendError: a part of it does not run on the device.
            DeviceFault: the core is taken, or failed.
        """
        self.host.require_stack()
        self.host.adopt_worker(self._worker_environment())
        signature = read_signature(folder)
        cache = Path(os.environ[_CACHE])
        before = set(list_compiled(cache))
        link_neffs(folder, cache)
        program = self._open(request)
        program.start(shape, self.host.describe_scene("loading", shape))
        if missed := sorted(set(list_compiled(cache)) - before):
            _logger.warning(
                "%s: %d programs were not in the artifact and were compiled in this worker; was it compiled "
                "with other versions or flags?",
                folder,
                len(missed),
            )
        call = program.bind(self.host.describe_scene("running", shape))
        return Guard(call, shape, signature.inputs, signature.outputs)

    def _open(self, request: CompileRequest) -> NativeProgram:
        """The program on the device; its weights are shared by all shapes."""
        name = request.kind.name if request.kind else request.task
        key = json.dumps([name, dict(request.options), request.model.digest], sort_keys=True)
        if key not in self._programs:
            self._programs[key] = NativeProgram(self._load_program(request))
        return self._programs[key]

    def _load_program(self, request: CompileRequest) -> Program:
        from batchneuron.programs.program import load_program

        return load_program(request, self._precision)

    def _shared_environment(self) -> dict[str, str]:
        """What compiling and running must have alike: it is part of a NEFF's key in the cache."""
        chip = self.host.chip
        return {
            **_STRICT,
            **make_native_environment(self.facts.compiler_args),
            "NEURON_PLATFORM_TARGET_OVERRIDE": chip.target,
            "NEURON_LOGICAL_NC_CONFIG": str(chip.logical_core_size),
        }

    def _compile_environment(self) -> Mapping[str, str]:
        return {
            **self._shared_environment(),
            _COMPILE_ONLY: "1",
            "TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TRANSFORMERS_VERBOSITY": "error",
            "PATH": tool_path(os.environ),
        }

    def _worker_environment(self) -> Mapping[str, str]:
        scratch = user_cache() / "neff"
        return {
            **self._shared_environment(),
            "TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
            _CACHE: str(scratch / "core-{core}" / "cache"),
            _LOCAL_CACHE: str(scratch / "core-{core}" / "local"),
        }


def keep_out_of_parent() -> None:
    """Stop `import torch` from loading the native stack in this process, which plans and supervises."""
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
