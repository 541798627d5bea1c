"""The backends, one file each; a new backend is a new file and one line here."""

from __future__ import annotations

from batchneuron.backends.backend import Backend
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import BackendError
from batchneuron.spec.sections import JobSpec


def open_backend(spec: JobSpec) -> Backend:
    """The backend a spec asks for, or the best that this machine has.

    Raises:
        BackendError: it is not available here.
    """
    match spec.backend.kind:
        case "auto" | "cpu" | "torch":
            return TorchBackend(spec.backend, spec.model)
        case kind:
            raise BackendError(
                f"backend '{kind}' is not available in this version",
                "backend.kind",
                "use auto, cpu or torch; the same spec will run on Neuron when it is",
            )
