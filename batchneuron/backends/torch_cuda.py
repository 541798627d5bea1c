"""The torch backend on NVIDIA GPUs: the same eager programs, one worker for each GPU.

Nothing is compiled. What comes back is held against the CPU's float32 like that of any other device.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from batchneuron.backends.backend import BackendFacts, CompileRequest, Core
from batchneuron.backends.nvidia_smi import Gpu, list_gpus
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import BackendError, DeviceFault, DeviceMemoryFull
from batchneuron.model import Model
from batchneuron.planning.cost import DeviceCost
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import require_inputs
from batchneuron.spec.sections import BackendSpec, ModelSpec
from batchneuron.stages.items import Tensor

if TYPE_CHECKING:
    from batchneuron.programs.program import Program

VISIBLE = "CUDA_VISIBLE_DEVICES"
_DEVICE = "cuda"
_BATCH_SLOTS = 32768
# A launch of a hundred kernels, and what an encoder reaches of a data-centre GPU: only their ratio counts.
_COST = DeviceCost(per_call_s=0.002, flop_per_s=1e14)
_OWN = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    # The same bits for the same batch (cuBLAS: "Results reproducibility").
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


@dataclass(frozen=True, slots=True)
class CudaExecutable:
    """A program in eager mode whose weights are on a GPU, held to one shape."""

    program: Program
    shape: Shape
    device: str = _DEVICE

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
            DeviceMemoryFull: the batch does not fit the GPU.
            DeviceFault: the GPU failed; CUDA gives nothing more to this process.
        """
        import torch

        require_inputs(self.program.input_specs(self.shape), inputs, f"shape {self.shape}")
        with _told_as_ours(f"shape {self.shape}"), torch.inference_mode():
            outputs = self.program(*(torch.from_numpy(tensor).to(self.device) for tensor in inputs))
            return tuple(output.cpu().numpy() for output in outputs)


@dataclass(slots=True)
class CudaBackend:
    """Eager PyTorch on the GPUs of this machine, float32 or bfloat16."""

    backend_spec: BackendSpec
    model_spec: ModelSpec
    device: str = _DEVICE
    _programs: dict[Path, Program] = field(default_factory=dict)
    _gpus: tuple[Gpu, ...] = ()
    """Those of this host, once nvidia-smi has been asked: it takes a second on some."""

    @property
    def facts(self) -> BackendFacts:
        """Those of the torch backend, with the GPU in the place of the CPU.

        Raises:
            BackendError: there is none, or there are several kinds.
        """
        kinds = {gpu.target for gpu in self._list_gpus()}
        if len(kinds) > 1:
            raise BackendError(
                f"GPUs of several kinds: {', '.join(sorted(kinds))}",
                "backend.device: cuda",
                f"choose those of one kind: {VISIBLE}=0,1",
            )
        return replace(
            self._on_cpu.facts,
            target=kinds.pop(),
            batch_slots=_BATCH_SLOTS,
            is_reference=False,
            cost=_COST,
        )

    @property
    def _on_cpu(self) -> TorchBackend:
        """The same on the CPU: recipe, versions, memory of the host."""
        wished = self.backend_spec.precision
        if wished == "auto":
            wished = "bfloat16" if self._list_gpus()[0].has_bfloat16 else "float32"
        return TorchBackend(self.backend_spec.model_copy(update={"precision": wished}), self.model_spec)

    def list_cores(self) -> tuple[Core, ...]:
        """One core per GPU; of those in CUDA_VISIBLE_DEVICES, if that is set.

        Raises:
            BackendError: there is none.
        """
        gpus, visible = self._list_gpus(), _list_visible()
        names = [gpu.uuid for gpu in gpus] if visible is None else visible
        return tuple(
            Core(index, environment={**_OWN, VISIBLE: name}, is_exclusive=True)
            for index, name in enumerate(names)
        )

    def memory_per_worker_bytes(self, model: Model) -> int:
        """What a worker without a GPU needs; the weights pass through the host."""
        return self._on_cpu.memory_per_worker_bytes(model)

    def compile_needs(self, model: Model) -> None:
        """Nothing: eager mode does not compile."""

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        """Write the recipe."""
        self._on_cpu.compile(request, shape, folder)

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> CudaExecutable:
        """The program of that recipe on the first GPU in sight; all shapes share its weights."""
        if folder not in self._programs:
            self._programs[folder] = self._load_program(request)
        return CudaExecutable(self._programs[folder], shape, self.device)

    def _load_program(self, request: CompileRequest) -> Program:
        import torch

        from batchneuron.programs.program import load_program

        if self.device == _DEVICE and not torch.cuda.is_available():
            raise BackendError(
                f"torch {torch.__version__} finds no GPU",
                "backend.device: cuda",
                "install a CUDA build of torch that fits the driver: https://pytorch.org/get-started/locally",
            )
        # Convolutions of image models would take 10 bits of mantissa for 23 (torch: CUDA semantics, TF32).
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        with _told_as_ours("the weights"):
            return load_program(request, self._on_cpu.facts.precision).to(self.device)

    def _list_gpus(self) -> tuple[Gpu, ...]:
        """GPUs of this host, visible or not.

        Raises:
            BackendError: there is none.
        """
        self._gpus = gpus = self._gpus or list_gpus()
        visible = _list_visible()
        if not gpus or visible == []:
            what = "nvidia-smi names no GPU" if not gpus else f"{VISIBLE} hides every GPU"
            raise BackendError(what, "backend.device: cuda", "leave backend.device out to compute on the CPU")
        if visible is None:
            return gpus
        chosen = [gpu for index, gpu in enumerate(gpus) if _is_named(gpu, index, visible)]
        return tuple(chosen) or gpus  # a part of a GPU (MIG), which has a name of its own


def _list_visible() -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES names; None: it is not set."""
    value = os.environ.get(VISIBLE)
    if value is None:
        return None
    return [word.strip() for word in value.split(",") if word.strip() not in ("", "-1", "NoDevFiles")]


def _is_named(gpu: Gpu, index: int, visible: list[str]) -> bool:
    return str(index) in visible or any(gpu.uuid.startswith(word) for word in visible if not word.isdigit())


@contextmanager
def _told_as_ours(where: str) -> Iterator[None]:
    """CUDA's errors as ours.

    Raises:
        DeviceMemoryFull: it does not fit.
        DeviceFault: anything else that CUDA says; after it this process gets no more from the GPU.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        hint = "lower shapes.batch_size, or choose shorter shapes"
        raise DeviceMemoryFull("it does not fit the GPU's memory", where, hint) from error
    except RuntimeError as error:
        if "CUDA" not in str(error):
            raise
        raise DeviceFault(str(error).partition("\n")[0], where) from error
