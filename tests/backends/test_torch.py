"""The torch backend: the model's own numbers, one shape at a time, and no random heads."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from batchneuron.backends import open_backend
from batchneuron.backends.backend import CompileRequest
from batchneuron.backends.machine import list_cpus
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import BackendError, ModelError, ProgramError
from batchneuron.model import resolve_model
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.spec.sections import BackendSpec, InputSpec, JobSpec, ModelSpec, OutputSpec
from batchneuron.stages.execute import execute
from tests.backends.arithmetic import make_items

SHAPE = Shape(3, 8)
LADDER = Ladder((SHAPE, Shape(2, 17)))
TOKENS = [[2, 5, 6, 3], [2, 7, 3], [2, *range(5, 17), 3], [2, 3], [2, 9, 9, 9, 3], [2, *range(8, 16), 3]]


def make_request(folder, task="text-classification", **options):
    return CompileRequest(task, options, resolve_model(ModelSpec(id=str(folder)), ""))


@pytest.fixture(scope="module")
def backend():
    return TorchBackend(BackendSpec(), ModelSpec())


@pytest.fixture(scope="module")
def request_(classifier):
    return make_request(classifier, function_to_apply="none")


@pytest.fixture(scope="module")
def executables(backend, request_, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    backend.compile(request_, SHAPE, folder)
    return tuple(backend.load(folder, shape, request_) for shape in LADDER.shapes)


def make_batch(executable, tokens=TOKENS[:3]):
    items = make_items([row[: executable.shape.sequence_length] for row in tokens])
    picks = np.arange(len(tokens))
    return [
        items.make_input(name, picks, executable.shape.sequence_length) for name in executable.input_names
    ]


@pytest.mark.parametrize("threads", [1, 3])
def test_it_has_one_thread_unless_it_is_told_otherwise(request_, threads, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", (told := []).append)
    backend = TorchBackend(BackendSpec(), ModelSpec(), *([threads] if threads > 1 else []))

    backend.load(Path("none"), SHAPE, request_)

    assert told == [threads]


def test_it_gives_the_model_s_own_numbers(executables, classifier):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    (logits,) = executables[0](*make_batch(executables[0]))

    for row, tokens in zip(logits, TOKENS[:3], strict=True):
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([tokens[:8]])).logits[0]
        assert np.allclose(row, expected, atol=1e-5)


def test_it_says_what_it_takes(executables):
    assert [executable.shape for executable in executables] == list(LADDER.shapes)
    assert executables[0].input_names == ("input_ids", "attention_mask", "token_type_ids")


def test_a_row_has_the_same_answer_whoever_its_neighbours_are(executables):
    def run(tokens):
        return execute(make_items(tokens), LADDER, executables, 128, lambda _: None).outputs.stack(0)

    together = run(TOKENS)

    for place, tokens in enumerate(TOKENS):
        assert np.allclose(run([tokens])[0], together[place], atol=1e-6)
    assert (run(TOKENS) == together).all()


@pytest.mark.parametrize("rows", [2, 4, 0])
def test_a_batch_of_another_size_is_refused(executables, rows):
    batch = [np.zeros((rows, 8), np.int64)] * 3

    with pytest.raises(ProgramError, match="shape 3x8"):
        executables[0](*batch)


def test_a_batch_of_another_length_is_refused(executables):
    with pytest.raises(ProgramError, match="shape 3x8"):
        executables[0](*[np.zeros((3, 9), np.int64)] * 3)


def test_all_shapes_share_one_program(executables):
    assert executables[0].program is executables[1].program
    assert not any(parameter.requires_grad for parameter in executables[0].program.parameters())
    assert not executables[0].program.training


@pytest.mark.parametrize(
    ("precision", "dtype", "expected"),
    [
        ("auto", "float32", torch.float32),
        ("auto", "bfloat16", torch.bfloat16),
        ("bfloat16", "float32", torch.bfloat16),
        ("float32", "bfloat16", torch.float32),
    ],
)
def test_precision(request_, executables, tmp_path, precision, dtype, expected):
    backend = TorchBackend(BackendSpec(precision=precision), ModelSpec(dtype=dtype))

    executable = backend.load(tmp_path, SHAPE, request_)
    (logits,) = executable(*make_batch(executable))
    (reference,) = executables[0](*make_batch(executables[0]))

    assert backend.facts.precision == str(expected).removeprefix("torch.")
    assert {parameter.dtype for parameter in executable.program.parameters()} == {expected}
    assert logits.dtype == np.float32
    assert np.allclose(logits, reference, atol=0.2)


def test_a_head_without_weights_is_refused(backend, encoder, tmp_path):
    with pytest.raises(
        ModelError, match=r"(?s)needs weights that are not there: classifier.*trained for this"
    ):
        backend.load(tmp_path, SHAPE, make_request(encoder))


def test_an_unused_pooler_may_be_missing(backend, classifier, tmp_path):
    executable = backend.load(tmp_path, SHAPE, make_request(classifier, "feature-extraction", pooling="cls"))

    assert executable(*make_batch(executable))[0].shape == (3, 16)


@pytest.mark.parametrize("damage", ["weights", "config"])
def test_a_model_that_cannot_be_loaded_is_named(backend, classifier, tmp_path, damage):
    import shutil

    folder = shutil.copytree(classifier, tmp_path / "broken")
    if damage == "weights":
        (folder / "model.safetensors").write_bytes(b"x" * 64)
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "no-such-architecture"}))

    with pytest.raises(ModelError, match="cannot load it") as caught:
        backend.load(tmp_path, SHAPE, make_request(folder))
    assert caught.value.where == str(folder)


def test_a_core_is_one_cpu_and_one_thread(backend):
    cores = backend.list_cores()

    assert [core.cpus for core in cores] == [(cpu,) for cpu in list_cpus()]
    assert [core.index for core in cores] == list(range(len(cores)))
    assert all(core.environment["OMP_NUM_THREADS"] == "1" for core in cores)


def test_a_worker_needs_more_than_the_weights(backend, request_):
    weights = (request_.model.folder / "model.safetensors").stat().st_size

    assert backend.memory_per_worker_bytes(request_.model) > weights + (100 << 20)


def test_the_artifact_is_a_recipe_and_one_for_all_shapes(backend, request_, tmp_path):
    backend.compile(request_, SHAPE, tmp_path)

    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["model"] == request_.model.digest
    assert not backend.facts.compiles_per_shape
    assert {"torch", "transformers", "tokenizers"} <= set(backend.facts.versions)


def make_spec(kind):
    return JobSpec(
        task="text-classification",
        input=InputSpec(path="x"),
        output=OutputSpec(path="y"),
        backend=BackendSpec(kind=kind),
    )


def test_a_backend_that_this_machine_lacks_is_refused():
    assert open_backend(make_spec("torch")).facts.kind == "torch"
    with pytest.raises(BackendError, match="no Neuron device here"):
        open_backend(make_spec("neuron"))
