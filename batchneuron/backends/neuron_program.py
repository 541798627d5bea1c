"""A program on a NeuronCore of the native stack: compiled once per shape, then never again.

Everything that the stack would do silently is made an error: another shape, an operation on the CPU, an
input that is copied by itself (RTD: torch/compile/reference-torch-compile, torch/troubleshooting).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from batchneuron.backends.neuron_status import Scene, translate
from batchneuron.errors import BackendError, ProgramError
from batchneuron.planning.shapes import Shape
from batchneuron.stages.items import Tensor

if TYPE_CHECKING:
    from batchneuron.programs.program import Program

_DEVICE = "neuron:0"  # a worker sees one core
_OURS = "this is a bug of ours: please report it"


class NativeProgram:
    """A task's program, moved to the device when the first shape is warmed."""

    def __init__(self, program: Program) -> None:
        import torch
        import torch_neuronx  # noqa: F401  # where torch was imported without loading it

        self._program = program
        self._compiled: Any = torch.compile(program, backend="neuron", fullgraph=True, dynamic=False)

    def warm(self, shape: Shape) -> None:
        """Compile for one shape, or find that in the cache, and run it once on valid inputs."""
        import torch

        # Dynamo gives up at the ninth shape unless it is told that there are more.
        torch._dynamo.config.recompile_limit += 1
        self._program.to(_DEVICE)  # claims the core, the first time
        inputs = [tensor.to(_DEVICE) for tensor in self._program.example_inputs(shape)]
        with torch.no_grad():
            self._compiled(*inputs)

    def start(self, shape: Shape, scene: Scene) -> None:
        """Make it ready for one shape.

        Raises:
            BackendError: some operations are not run by the device.
            BatchNeuronError: whatever the runtime's failure means.
        """
        import torch_neuronx

        torch_neuronx.clear_op_tracking()
        try:
            self.warm(shape)
            _synchronize()
        except RuntimeError as error:
            raise translate(error, scene) from error
        fallen = sorted(map(str, torch_neuronx.get_fallback_ops()))
        if fallen:
            raise BackendError(
                f"the device does not run {', '.join(fallen)}: they would run on the host's CPU",
                str(scene),
                "use backend.kind: cpu for this model, or a newer torch-neuronx",
            )

    def bind(self, scene: Scene) -> Callable[..., tuple[Tensor, ...]]:
        """A function of numpy arrays that runs it; a shape that was not warmed is an error there."""
        import torch

        def call(*inputs: Tensor) -> tuple[Tensor, ...]:
            try:
                # Around each call, not once for all: a notebook may load another program in between.
                with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):
                    outputs = self._compiled(*(torch.from_numpy(given).to(_DEVICE) for given in inputs))
                # Calls return before the device is done; an error in one is raised here.
                _synchronize()
                return tuple(output.cpu().numpy() for output in outputs)
            except RuntimeError as error:
                if "fail_on_recompile" in str(error):
                    raise ProgramError(f"it would be compiled again: {error}", str(scene), _OURS) from error
                raise translate(error, scene) from error

        return call


def _synchronize() -> None:
    """Wait for the device; what failed there is raised here."""
    import torch

    extended: Any = torch
    extended.neuron.synchronize()
