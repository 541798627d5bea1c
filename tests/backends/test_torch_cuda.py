"""The torch backend on GPUs: those that a stand-in for nvidia-smi names; its numbers, on the CPU."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from batchneuron.backends import open_backend
from batchneuron.backends.backend import CompileRequest
from batchneuron.backends.nvidia_smi import Gpu, list_gpus
from batchneuron.backends.torch_cuda import VISIBLE, CudaBackend, CudaExecutable
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import BackendError, DeviceFault, DeviceMemoryFull, ProgramError
from batchneuron.model import resolve_model
from batchneuron.planning.shapes import Shape
from batchneuron.spec.sections import BackendSpec, InputSpec, JobSpec, ModelSpec, OutputSpec

H200 = "GPU-1a, NVIDIA H200, 9.0, 143771"
TWO = f"{H200}\nGPU-2b, NVIDIA H200, 9.0, 143771"
OLD = "GPU-9f, Tesla V100-SXM2-16GB, 7.0, 16384"
SHAPE = Shape(3, 8)


@pytest.fixture
def say(tmp_path, monkeypatch):
    """Let `nvidia-smi` say this, and end so."""
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(text, code=0):
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)

    return write


def open_cuda(**backend):
    return CudaBackend(BackendSpec(kind="torch", device="cuda", **backend), ModelSpec())


def test_it_reads_what_the_tool_says(say):
    say(f"{H200}\nsome warning, in the middle\n{OLD}")

    assert list_gpus() == (
        Gpu("GPU-1a", "NVIDIA H200", (9, 0), 143771 << 20),
        Gpu("GPU-9f", "Tesla V100-SXM2-16GB", (7, 0), 16384 << 20),
    )


@pytest.mark.parametrize(
    ("text", "code"), [("Failed to initialize NVML: Driver/library", 18), (TWO, 9), ("", 0)]
)
def test_a_tool_that_fails_names_no_gpu_and_the_backend_says_so(say, text, code):
    say(text, code)

    assert list_gpus() == ()
    for ask in (lambda: open_cuda().facts, lambda: open_cuda().list_cores()):
        with pytest.raises(BackendError, match=r"(?s)nvidia-smi names no GPU.*compute on the CPU") as told:
            ask()
        assert told.value.exit_code == 78


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["GPU-1a", "GPU-2b"]),
        ("1", ["1"]),
        ("1, 0", ["1", "0"]),
        ("GPU-2b", ["GPU-2b"]),
        ("MIG-77", ["MIG-77"]),
    ],
)
def test_a_worker_has_a_gpu_of_its_own_out_of_those_in_sight(say, monkeypatch, visible, names):
    say(TWO)
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)

    cores = open_cuda().list_cores()

    assert [core.environment[VISIBLE] for core in cores] == names
    assert [core.index for core in cores] == list(range(len(names)))
    assert all(core.is_exclusive and core.cpus == () for core in cores)


@pytest.mark.parametrize("visible", ["", "-1"])
def test_gpus_that_are_hidden_are_left_alone(say, monkeypatch, visible):
    say(TWO)
    monkeypatch.setenv(VISIBLE, visible)

    with pytest.raises(BackendError, match="CUDA_VISIBLE_DEVICES hides every GPU"):
        open_cuda().list_cores()


def test_facts_are_those_of_the_gpu_and_never_the_reference_s(say):
    say(TWO)
    facts = open_cuda(precision="float32").facts

    assert (facts.kind, facts.target, facts.precision) == ("torch", "sm_90 NVIDIA H200", "float32")
    assert not facts.is_reference and not facts.compiles_per_shape
    assert facts.versions == TorchBackend(BackendSpec(), ModelSpec()).facts.versions


def test_the_tool_is_asked_once(say):
    say(TWO)
    backend = open_cuda()
    target = backend.facts.target
    say("", 1)

    assert backend.facts.target == target
    assert len(backend.list_cores()) == 2


@pytest.mark.parametrize(("gpu", "precision"), [(H200, "bfloat16"), (OLD, "float32")])
def test_auto_is_bfloat16_where_the_gpu_is_made_for_it(say, gpu, precision):
    say(gpu)

    assert open_cuda().facts.precision == precision


def test_gpus_of_several_kinds_are_refused_until_some_are_chosen(say, monkeypatch):
    say(f"{H200}\n{OLD}")
    with pytest.raises(
        BackendError, match=r"(?s)sm_70 Tesla V100-SXM2-16GB, sm_90 NVIDIA H200.*CUDA_VISIBLE_DEVICES="
    ):
        _ = open_cuda().facts
    monkeypatch.setenv(VISIBLE, "1")

    assert open_cuda().facts.target == "sm_70 Tesla V100-SXM2-16GB"


def make_inputs():
    ids = np.array([[2, 5, 6, 3, 0, 0, 0, 0], [2, 7, 3, 0, 0, 0, 0, 0], [2, 9, 9, 9, 9, 9, 9, 3]], np.int64)
    return ids, (ids > 0).astype(np.int64), np.zeros_like(ids)


def test_its_numbers_are_the_programs(say, classifier, tmp_path):
    """On the CPU: what a GPU would add is the copy there and back."""
    say(H200)
    request = CompileRequest("text-classification", {}, resolve_model(ModelSpec(id=str(classifier)), ""))
    backend = CudaBackend(BackendSpec(kind="torch", device="cuda", precision="float32"), ModelSpec(), "cpu")
    backend.compile(request, SHAPE, tmp_path)
    ours = backend.load(tmp_path, SHAPE, request)
    eager = TorchBackend(BackendSpec(), ModelSpec()).load(tmp_path, SHAPE, request)

    assert ours.input_names == eager.input_names
    assert np.array_equal(ours(*make_inputs())[0], eager(*make_inputs())[0])
    assert backend.load(tmp_path, Shape(2, 8), request).program is ours.program
    with pytest.raises(ProgramError, match="shape 3x8"):
        ours(*[np.zeros((2, 8), np.int64)] * 3)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), DeviceMemoryFull),
        (RuntimeError("CUDA error: an illegal memory access was encountered\nmore"), DeviceFault),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling"), DeviceFault),
        (RuntimeError("The size of tensor a (3) must match"), RuntimeError),
    ],
)
def test_what_cuda_says_is_told_as_ours(error, ours):
    class Failing:
        def input_specs(self, _shape):
            return ()

        def __call__(self):
            raise error

    with pytest.raises(ours) as told:
        CudaExecutable(Failing(), SHAPE, "cpu")()
    assert type(told.value) is ours
    assert "\nmore" not in str(told.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_torch_without_cuda_is_refused_by_name(say, classifier, tmp_path):
    say(H200)
    request = CompileRequest("text-classification", {}, resolve_model(ModelSpec(id=str(classifier)), ""))

    with pytest.raises(BackendError, match=r"(?s)torch .* finds no GPU.*install a CUDA build"):
        open_cuda().load(tmp_path, SHAPE, request)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_agrees_with_the_cpu(classifier, tmp_path):
    request = CompileRequest("text-classification", {}, resolve_model(ModelSpec(id=str(classifier)), ""))
    there = open_cuda(precision="float32").load(tmp_path, SHAPE, request)(*make_inputs())
    here = TorchBackend(BackendSpec(), ModelSpec()).load(tmp_path, SHAPE, request)(*make_inputs())

    assert np.allclose(there[0], here[0], atol=1e-5)


def test_a_spec_opens_it():
    spec = JobSpec(
        task="text-classification",
        input=InputSpec(path=str(Path("x"))),
        output=OutputSpec(path="y"),
        backend=BackendSpec(kind="torch", device="cuda"),
    )

    assert isinstance(open_backend(spec), CudaBackend)
