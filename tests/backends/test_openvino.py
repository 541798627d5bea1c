"""The cpu backend: the model's own numbers, the same bits in any batch, and workers without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from batchneuron import backends
from batchneuron.backends import (
    cpu_memory,
    explain_substitute,
    has_openvino,
    machine,
    open_backend,
    openvino_cpu,
)
from batchneuron.backends.backend import CompileRequest
from batchneuron.backends.openvino_cpu import OpenVinoBackend
from batchneuron.backends.openvino_runtime import agrees, convert
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.cli import cli
from batchneuron.errors import BackendError, CompileError, ProgramError
from batchneuron.model import resolve_model
from batchneuron.planning.shapes import Shape
from batchneuron.programs.signature import TensorSpec
from batchneuron.spec.sections import BackendSpec, InputSpec, JobSpec, ModelSpec, OutputSpec
from tests.backends.arithmetic import make_items

# Not importorskip: importing it by itself reports the import to its maker.
pytestmark = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")

SHAPE = Shape(3, 16)
TOKENS = [[2, 5, 6, 3], [2, 7, 3], [2, *range(5, 17), 3], [2, 3], [2, 9, 9, 9, 3], [2, *range(8, 16), 3]]
needs_bfloat16 = pytest.mark.skipif(not machine.has_bfloat16(), reason="this CPU has no bfloat16")
PRECISIONS = ["float32", pytest.param("bfloat16", marks=needs_bfloat16)]


def make_backend(precision="float32", **settings):
    return OpenVinoBackend(BackendSpec(precision=precision, **settings), ModelSpec())


@pytest.fixture(scope="module")
def request_(classifier):
    options = {"function_to_apply": "none"}
    return CompileRequest("text-classification", options, resolve_model(ModelSpec(id=str(classifier)), ""))


@pytest.fixture(scope="module")
def artifact(request_, tmp_path_factory):
    """What one compilation, at one shape, leaves for all shapes."""
    folder = tmp_path_factory.mktemp("artifact")
    make_backend().compile(request_, SHAPE, folder)
    return folder


@pytest.fixture
def lean(monkeypatch):
    """A machine with little memory for each CPU."""
    monkeypatch.setattr(openvino_cpu, "is_lean", lambda: True)
    monkeypatch.setattr(openvino_cpu, "is_open", lambda: True)


def run(executable, tokens=TOKENS):
    """Logits of each row, in batches of the executable's shape, the last one filled up: [rows, classes]."""
    size, length = executable.shape.batch_size, executable.shape.sequence_length
    items, made = make_items(tokens), []
    for start in range(0, len(tokens), size):
        picks = np.arange(start, start + size) % len(tokens)
        inputs = [items.make_input(name, picks, length) for name in executable.input_names]
        made.append(executable(*inputs)[0])
    return np.concatenate(made)[: len(tokens)]


def run_torch(request_, tokens=TOKENS):
    backend = TorchBackend(BackendSpec(precision="float32"), ModelSpec())
    return run(backend.load(None, Shape(len(tokens), 16), request_), tokens)


@pytest.mark.parametrize("shape", [SHAPE, Shape(1, 14), Shape(8, 48)], ids=str)
def test_it_gives_the_numbers_of_torch_at_any_shape(shape, artifact, request_):
    made = run(make_backend().load(artifact, shape, request_))

    assert made.dtype == np.float32
    np.testing.assert_allclose(made, run_torch(request_), rtol=0, atol=1e-5)


@needs_bfloat16
def test_bfloat16_is_near(artifact, request_):
    made, exact = run(make_backend("bfloat16").load(artifact, SHAPE, request_)), run_torch(request_)

    assert not np.allclose(made, exact, rtol=0, atol=1e-5), "this was float32"
    np.testing.assert_allclose(made, exact, rtol=0, atol=0.2)


@pytest.mark.parametrize("layout", ["static", "dynamic"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_has_the_same_bits_in_any_batch_and_number_of_threads(
    precision, layout, artifact, request_, monkeypatch
):
    """In any shape too, where the backend says so: left-over rows then travel in a longer one."""
    monkeypatch.setattr(openvino_cpu, "is_open", lambda: layout == "dynamic")
    made = {}
    for threads in (1, 2, 5):
        monkeypatch.setattr(openvino_cpu, "list_cpus", lambda threads=threads: tuple(range(threads)))
        backend = make_backend(precision)
        for shape in (Shape(6, 14), Shape(1, 16), Shape(4, 17), Shape(3, 33), Shape(16, 48)):
            executable = backend.load(artifact, shape, request_)
            both = run(executable), run(executable, TOKENS[::-1])[::-1]
            made.setdefault(shape, set()).update(each.tobytes() for each in both)

    assert all(len(bits) == 1 for bits in made.values())
    if backend.facts.is_bit_stable_across_shapes:
        assert len(set.union(*made.values())) == 1


def test_it_says_what_it_takes_and_takes_nothing_else(artifact, request_):
    executable = make_backend().load(artifact, SHAPE, request_)

    assert executable.shape == SHAPE
    assert executable.input_names == ("input_ids", "attention_mask", "token_type_ids")
    good = np.zeros((3, 16), np.int64)
    for bad in (np.zeros((2, 16), np.int64), np.zeros((3, 17), np.int64), np.zeros((3, 16), np.int32)):
        with pytest.raises(ProgramError, match="shape 3x16"):
            executable(good, bad, good)


@pytest.mark.parametrize("layout", ["static", "dynamic"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_with_open_shapes_a_batch_may_have_fewer_rows(precision, layout, artifact, request_, monkeypatch):
    """And each of them keeps its bits, which is why a partial batch needs no copies."""
    monkeypatch.setattr(openvino_cpu, "is_open", lambda: layout == "dynamic")
    executable = make_backend(precision).load(artifact, Shape(6, 16), request_)
    items, names = make_items(TOKENS), executable.input_names

    def call(rows):
        picks = np.arange(rows)
        return executable(*(items.make_input(name, picks, 16) for name in names))[0]

    full = call(6)
    assert executable.least_rows == (1 if layout == "dynamic" else 6)
    for rows in range(1, 6):
        if rows < executable.least_rows:
            with pytest.raises(ProgramError, match="shape 6x16"):
                call(rows)
        else:
            assert call(rows).tobytes() == full[:rows].tobytes()
    wrong = np.zeros((7, 16), np.int64), np.zeros((2, 15), np.int64), np.zeros((0, 16), np.int64)
    for each in wrong:
        with pytest.raises(ProgramError, match="shape 6x16"):
            executable(*[each] * len(names))


def test_outputs_are_the_caller_s(artifact, request_):
    executable = make_backend().load(artifact, SHAPE, request_)
    first = run(executable, TOKENS[:3])
    kept = first.copy()

    run(executable, TOKENS[3:])

    assert (first == kept).all()


def test_one_artifact_holds_the_weights_once_for_all_shapes(artifact, request_):
    names = {path.name for path in artifact.iterdir()}
    weights = (request_.model.folder / "model.safetensors").stat().st_size

    assert names == {"program.xml", "program.bin", "program.json"}
    assert (artifact / "program.bin").stat().st_size < 1.5 * weights
    assert not make_backend().facts.compiles_per_shape


class Share(torch.nn.Module):
    """The share of real tokens; a length that is read as a number stays what it was when it was traced."""

    input_names = ("input_ids", "attention_mask")

    def __init__(self, is_number):
        super().__init__()
        self.is_number = is_number

    def forward(self, ids, mask):
        length = float(ids.shape[1]) if self.is_number else torch.ones_like(mask).sum(1)
        return ((mask.sum(1) / length).float(),)

    def input_specs(self, shape):
        sizes = (shape.batch_size, shape.sequence_length)
        return tuple(TensorSpec(name, sizes, "int64") for name in self.input_names)

    def example_inputs(self, shape):
        return tuple(torch.ones(spec.shape, dtype=torch.int64) for spec in self.input_specs(shape))


@pytest.mark.parametrize("is_number", [False, True])
def test_a_length_that_is_kept_as_a_number_is_noticed(is_number):
    program = Share(is_number)

    model = convert(program, Shape(3, 4))

    assert agrees(model, program, Shape(2, 4))
    assert agrees(model, program, Shape(2, 9)) is not is_number


def test_an_architecture_that_cannot_be_left_open_is_converted_for_each_shape(
    request_, tmp_path, monkeypatch
):
    monkeypatch.setattr(openvino_cpu, "agrees", lambda *_: False)
    backend = make_backend()

    backend.compile(request_, SHAPE, tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["program.json"]
    made = run(backend.load(tmp_path, Shape(2, 40), request_))
    np.testing.assert_allclose(made, run_torch(request_), rtol=0, atol=1e-5)


def test_on_a_lean_machine_all_shapes_share_one_model(lean, artifact, request_):
    backend = make_backend()

    shared = [backend.load(artifact, shape, request_) for shape in (SHAPE, Shape(2, 40))]

    assert shared[0].request is shared[1].request
    assert backend.facts.target.endswith("-lean")
    for executable in (*shared, shared[0]):
        np.testing.assert_allclose(run(executable), run_torch(request_), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("has_units", "shapes"), [(True, 8), (False, 32)])
def test_without_matrix_units_shapes_stay_open_and_may_be_many(has_units, shapes, monkeypatch):
    monkeypatch.setattr(cpu_memory, "has_matrix_units", lambda: has_units)
    monkeypatch.setattr(cpu_memory, "is_lean", lambda: False)

    facts = make_backend().facts
    assert facts.max_shapes == shapes
    assert (facts.cost.compile_s < 0.05) is not has_units
    assert (facts.cost.partial_s is None) is has_units


@pytest.mark.parametrize(
    ("flags", "wished", "expected"),
    [
        ({"avx512f", "avx512_bf16"}, "auto", "bfloat16"),
        ({"avx512f", "avx512_bf16", "amx_bf16"}, "float32", "float32"),
        ({"avx2"}, "auto", "float32"),
        (set(), "auto", "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_cpu_multiplies_it(flags, wished, expected, monkeypatch):
    monkeypatch.setattr(machine, "_list_flags", lambda: frozenset(flags))

    facts = make_backend(wished).facts

    assert facts.precision == expected
    assert facts.is_bit_stable_across_shapes is (expected == "bfloat16")
    assert ("bf16" in facts.target) == any("bf16" in flag for flag in flags)
    assert {"openvino", "torch", "transformers", "tokenizers"} <= set(facts.versions)


def test_bfloat16_on_a_cpu_without_it_is_refused(artifact, request_, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_list_flags", lambda: frozenset({"avx2"}))
    backend = make_backend("bfloat16")

    for call in (
        lambda: backend.compile(request_, SHAPE, tmp_path),
        lambda: backend.load(artifact, SHAPE, request_),
    ):
        with pytest.raises(BackendError, match=r"bfloat16 on .*avx2") as caught:
            call()
        assert caught.value.where == "backend.precision"


def test_what_openvino_does_not_know_is_named(artifact, request_):
    backend = make_backend(compiler_args={"NO_SUCH_THING": 1})

    with pytest.raises(CompileError, match="NO_SUCH_THING") as caught:
        backend.load(artifact, SHAPE, request_)
    assert "backend.compiler_args" in caught.value.hint


def test_a_core_is_one_cpu(artifact):
    cores = make_backend().list_cores()

    assert [core.cpus for core in cores] == [(cpu,) for cpu in machine.list_cpus()]


def test_a_worker_imports_no_framework_and_nothing_reports_it(artifact, request_, tmp_path):
    """Tokenising and predicting, in a fresh process, once the tokenizer is in the user's cache."""
    code = """
import json, sys
import numpy as np
import pyarrow as pa
from pathlib import Path
from batchneuron.backends.backend import CompileRequest
from batchneuron.backends.openvino_cpu import OpenVinoBackend
from batchneuron.model import resolve_model
from batchneuron.planning.shapes import Shape
from batchneuron.spec.sections import BackendSpec, ModelSpec
from batchneuron.tasks import open_task
from batchneuron.stages.tokenize import Limit

model = resolve_model(ModelSpec(id=sys.argv[1]), "")
backend = OpenVinoBackend(BackendSpec(precision="float32"), ModelSpec())
request = CompileRequest("text-classification", {"function_to_apply": "none"}, model)
executable = backend.load(Path(sys.argv[2]), Shape(1, 16), request)
encoder = open_task("text-classification", {}, model).open_encoder()
items = encoder.encode(pa.table({"text": ["alpha beta"]}), Limit(16, "truncate")).items
executable(*(items.make_input(name, np.array([0]), 16) for name in executable.input_names))
heavy = {"torch", "transformers", "openvino_telemetry.main"} & set(sys.modules)
print(json.dumps(sorted(heavy)))
"""
    from batchneuron.stages.tokenize import Tokenizer

    Tokenizer(request_.model)
    home = tmp_path / "home"
    home.mkdir()
    made = subprocess.run(
        [sys.executable, "-c", code, str(request_.model.folder), str(artifact)],
        env={**machine.os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout) == []
    assert list(home.iterdir()) == []


def make_spec(kind="auto"):
    return JobSpec(
        task="text-classification",
        input=InputSpec(path="x"),
        output=OutputSpec(path="y"),
        backend=BackendSpec(kind=kind),
    )


@pytest.mark.parametrize("kind", ["auto", "cpu"])
def test_without_openvino_torch_serves_and_says_what_to_install(kind, monkeypatch):
    monkeypatch.setattr(backends, "is_neuron_machine", lambda _: False)
    assert isinstance(open_backend(make_spec(kind)), OpenVinoBackend)
    assert explain_substitute(make_spec(kind)) is None

    monkeypatch.setattr(backends, "find_spec", lambda _: None)

    assert isinstance(open_backend(make_spec(kind)), TorchBackend)
    assert "pip install '.[cpu]'" in explain_substitute(make_spec(kind))


def test_who_asks_for_torch_gets_it_without_a_word(monkeypatch):
    assert isinstance(open_backend(make_spec("torch")), TorchBackend)
    monkeypatch.setattr(backends, "find_spec", lambda _: SimpleNamespace())
    assert explain_substitute(make_spec("torch")) is None


@pytest.mark.parametrize(("kind", "times"), [("cpu", 1), ("torch", 0)])
def test_the_command_says_once_what_to_install(kind, times, classifier, rows_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda _: None)
    job = tmp_path / "job.yaml"
    job.write_text(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        f"input: {{path: '{rows_folder}', columns: {{text: text}}}}\n"
        f"backend: {{kind: {kind}}}\n"
        f"output: {{path: '{tmp_path / 'out'}'}}\n"
    )

    made = CliRunner().invoke(cli, ["plan", str(job)])

    assert made.exit_code == 0
    assert made.stderr.count("pip install '.[cpu]'") == times
    assert "pip install" not in made.stdout
