"""The backends, one file each; a new backend is a new file and one line here."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Literal

from batchneuron.backends.backend import Backend
from batchneuron.backends.neuron_devices import Places, find_family, is_neuron_machine
from batchneuron.backends.neuron_host import NeuronHost
from batchneuron.backends.neuron_native import NativeBackend, keep_out_of_parent
from batchneuron.backends.neuron_stack import BackendKind, choose_backend
from batchneuron.backends.neuron_trace import TraceBackend
from batchneuron.backends.openvino_cpu import OpenVinoBackend
from batchneuron.backends.torch_cuda import CudaBackend
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import BackendError
from batchneuron.spec.sections import JobSpec

Kind = Literal["cpu", "torch", "neuron-trace", "neuron"]


def open_backend(spec: JobSpec, *, elsewhere: bool = False, compiler_version: str | None = None) -> Backend:
    """The backend a spec asks for, or the best that this machine has.

    Args:
        spec: the job.
        elsewhere: it is opened for its facts alone, to plan what another machine will run.
        compiler_version: of the programs that it is to run, where its compiler is not installed here.

    Raises:
        BackendError: it is not available here.
    """
    match choose_kind(spec):
        case "cpu" if has_openvino():
            return OpenVinoBackend(spec.backend, spec.model)
        case "torch" if spec.backend.device == "cuda":
            return CudaBackend(spec.backend, spec.model)
        case "cpu" | "torch":
            return TorchBackend(spec.backend, spec.model)
        case "neuron-trace":
            host = _open_host("neuron-trace", spec, elsewhere)
            return TraceBackend(replace(host, compiler_version=compiler_version), spec.model)
        case "neuron":
            keep_out_of_parent()
            return NativeBackend(_open_host("neuron", spec, elsewhere))


def has_openvino() -> bool:
    """Whether the cpu backend is installed."""
    return find_spec("openvino") is not None


def explain_substitute(spec: JobSpec) -> str | None:
    """A line for people where torch does what the cpu backend would do faster; None where it does not."""
    if choose_kind(spec) != "cpu" or has_openvino():
        return None
    return (
        "OpenVINO is not installed, so PyTorch runs this, slower: "
        "pip install '.[cpu]' in the folder of batchneuron's repository"
    )


def choose_kind(spec: JobSpec, places: Places | None = None) -> Kind:
    """The kind a spec names; for `auto`, what fits the chip asked for, or this machine's, or else the CPU.

    A Neuron machine never falls back to its CPUs by itself: where its stack is missing, opening the backend
    says what to install.

    Raises:
        BackendError: there are devices, and nothing tells of what kind.
    """
    if spec.backend.kind != "auto":
        return spec.backend.kind
    if spec.backend.target != "auto":
        return choose_backend(spec.backend.target)
    places = places or Places()
    if not is_neuron_machine(places):
        return "cpu"
    family = find_family(places)
    if family is None:
        raise BackendError(
            "there are Neuron devices, and nothing tells of what kind",
            "/dev/neuron*",
            "set backend.target; or backend.kind: cpu to leave them alone",
        )
    return choose_backend(family)


def _open_host(kind: BackendKind, spec: JobSpec, elsewhere: bool) -> NeuronHost:
    """This machine, with a stack that fits the backend and the chip, unless another one is meant.

    Raises:
        BackendError: says what is installed, what is needed, and the command that installs it.
    """
    host = NeuronHost(kind, spec.backend)
    if elsewhere:
        return host
    try:
        host.require_stack()
    except BackendError as error:
        if spec.backend.kind != "auto":
            raise
        hint = f"{error.hint}; or say backend.kind: cpu, which leaves the chips idle"
        raise BackendError(error.what, error.where, hint) from error
    return host
