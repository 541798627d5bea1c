"""The program seam: what a compiler is given, and that it is one graph without a branch on values."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from batchneuron.errors import ModelError, ProgramError
from batchneuron.planning.shapes import Shape
from batchneuron.programs.attention import MASKED, make_mask
from batchneuron.programs.program import Program, load_program
from batchneuron.programs.signature import TensorSpec, require_inputs
from batchneuron.tasks import KINDS
from tests.program_cases import IMAGES, Case, make_request, save_model

SHAPE = Shape(3, 12)
ARCHITECTURES = {
    "feature-extraction": "albert",
    "fill-mask": "roberta",
    "image-classification": "vit",
    "question-answering": "distilbert",
    "text-classification": "bert",
    "token-classification": "modernbert",
    "zero-shot-classification": "deberta-v2",
}


@pytest.fixture(scope="module", params=KINDS)
def case(request):
    return Case(request.param, ARCHITECTURES[request.param])


@pytest.fixture(scope="module")
def program(case, tmp_path_factory) -> Program:
    folder = save_model(tmp_path_factory.mktemp(case.task), case)
    return load_program(make_request(folder, case), "float32")


@pytest.fixture
def bert(tmp_path):
    case = Case("text-classification", "bert")
    return make_request(save_model(tmp_path, case), case)


def run(program, inputs):
    with torch.inference_mode():
        return program(*inputs)


def test_example_inputs_are_what_the_program_says_it_takes(program, case):
    specs, inputs = program.input_specs(SHAPE), program.example_inputs(SHAPE)

    assert [spec.name for spec in specs] == list(program.input_names)
    require_inputs(specs, [tensor.numpy() for tensor in inputs], "here")
    size = (3, 3, 32, 32) if case.task == IMAGES else (3, 12)
    assert {spec.shape for spec in specs} == {size}
    assert all(output.isfinite().all() for output in run(program, inputs))
    again = program.example_inputs(SHAPE)
    assert all(torch.equal(one, other) for one, other in zip(inputs, again, strict=True))


def test_example_texts_are_padded_rows_of_valid_tokens(bert):
    program = load_program(bert, "float32")

    ids, mask, types = program.example_inputs(SHAPE)

    assert mask.sum(1).tolist() == [12, 9, 6]
    assert ((ids == 0) == (mask == 0)).all()
    assert 0 < ids.max() < 128
    assert types.tolist()[2] == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert [len(set(row)) > 3 for row in ids.tolist()] == [True] * 3


@pytest.mark.parametrize("shape", [Shape(1, 1), Shape(1, 2), Shape(5, 3)], ids=str)
def test_example_texts_of_the_smallest_shapes_have_a_token_each(bert, shape):
    program = load_program(bert, "float32")

    _, mask, _ = inputs = program.example_inputs(shape)

    assert mask.any(1).all()
    assert run(program, inputs)[0].shape == (shape.batch_size, 3)


def test_inputs_of_another_kind_are_named():
    specs = (TensorSpec("input_ids", (2, 4), "int64"), TensorSpec("attention_mask", (2, 4), "int64"))
    good = np.zeros((2, 4), np.int64)

    require_inputs(specs, [good, good], "shape 2x4")
    for bad, told in (
        (good.astype(np.int32), r"int32 \[2, 4\] for an input that is compiled as attention_mask: int64"),
        (good[:1], r"int64 \[1, 4\] for an input"),
    ):
        with pytest.raises(ProgramError, match=told) as caught:
            require_inputs(specs, [good, bad], "shape 2x4")
        assert caught.value.where == "shape 2x4"
    with pytest.raises(ProgramError, match="1 inputs, and the program takes input_ids, attention_mask"):
        require_inputs(specs, [good], "shape 2x4")


class Counting:
    """A backend of torch.compile that runs graphs as they are, and counts them."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, _inputs):
        self.graphs += 1
        return graph.forward


def test_it_is_one_graph_for_each_shape_however_many_batches(program, case):
    """`fullgraph` refuses breaks; `fail_on_recompile` refuses a second graph for the same shape."""
    torch._dynamo.reset()
    count = Counting()
    shapes = [SHAPE, Shape(2, 20)] if case.task == "fill-mask" else [SHAPE]
    # Each shape is compiled by itself, as a backend does it.
    compiled = [torch.compile(program, fullgraph=True, dynamic=False, backend=count) for _ in shapes]

    for run_shape, shape in zip(compiled, shapes, strict=True):
        inputs = program.example_inputs(shape)
        for output, expected in zip(run(run_shape, inputs), run(program, inputs), strict=True):
            torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)

    with torch.compiler.set_stance("fail_on_recompile"):
        for run_shape, shape in zip(compiled * 2, shapes * 2, strict=True):
            run(run_shape, [tensor.flip(0) for tensor in program.example_inputs(shape)])
    assert count.graphs == len(shapes)


def test_an_exported_program_gives_the_same_for_other_inputs(program):
    inputs = program.example_inputs(SHAPE)
    others = [tensor.flip(0) for tensor in inputs]

    exported = torch.export.export(program, inputs).module()

    for output, expected in zip(run(exported, others), run(program, others), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["bert", "mpnet", "modernbert", "deberta-v2"])
def test_the_mask_is_part_of_a_program_that_was_traced_without_padding(architecture, tmp_path):
    """Traced with a batch that has none, it must still see the padding of the next."""
    case = Case("text-classification", architecture)
    program = load_program(make_request(save_model(tmp_path, case), case), "float32")
    inputs = dict(zip(program.input_names, program.example_inputs(SHAPE), strict=True))
    full = {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}
    materialised = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, _types, arguments=(), settings=None):
            if function in {torch.Tensor.item, torch.Tensor.__bool__}:
                materialised.append(function)
            return function(*arguments, **(settings or {}))

    with Watch():
        run(program, full.values())

    assert materialised == [], "a branch on a tensor's values: it would be frozen"
    assert not torch.equal(run(program, inputs.values())[0], run(program, full.values())[0])


def test_a_row_has_the_same_bits_beside_padded_rows_and_beside_full_ones(program):
    """transformers leaves the mask out of a batch without padding; here it is always there."""
    if len(program.input_names) == 1:
        pytest.skip("images have no padding")
    inputs = dict(zip(program.input_names, program.example_inputs(SHAPE), strict=True))
    alike = {name: tensor[:1].expand(3, -1).contiguous() for name, tensor in inputs.items()}

    for beside_padded, beside_full in zip(
        run(program, inputs.values()), run(program, alike.values()), strict=True
    ):
        assert torch.equal(beside_padded[0], beside_full[0])


def test_a_mask_is_finite_in_half_precision_even_twice():
    seen = torch.tensor([[1, 1, 0]])

    mask = make_mask(
        batch_size=1,
        q_length=3,
        kv_length=3,
        mask_function=lambda batch, head, query, key: key >= 0,
        attention_mask=seen.bool(),
        dtype=torch.bfloat16,
        device="cpu",
    )

    assert mask.dtype == torch.bfloat16
    assert mask[0, 0].tolist() == [[0, 0, pytest.approx(MASKED, rel=0.01)]] * 3
    assert (2 * mask).isfinite().all()


def test_padding_of_deberta_sees_the_text_and_not_nothing(tmp_path):
    """A row of a mask that hides all keys is NaN where the lowest float32 is rounded to -infinity."""
    case = Case("text-classification", "deberta-v2")
    program = load_program(make_request(save_model(tmp_path, case), case), "float32")
    masks = []
    for module in program.modules():
        if type(module).__name__ == "DisentangledSelfAttention":
            module.register_forward_pre_hook(lambda _, inputs: masks.append(inputs[1]))

    run(program, program.example_inputs(SHAPE))

    assert len(masks) == 2
    assert all(mask.bool().any(-1).all() for mask in masks)


def test_code_from_the_repository_keeps_the_attention_it_was_written_for(bert):
    trusted = dataclasses.replace(bert, model=dataclasses.replace(bert.model, trust_remote_code=True))

    names = [
        load_program(request, "float32")._model.config._attn_implementation for request in (bert, trusted)
    ]

    assert names == ["batchneuron", "sdpa"]


def test_the_k_best_are_those_of_topk_and_the_first_of_equals():
    from batchneuron.tasks.fill_mask import take_best

    torch.manual_seed(0)
    scores = torch.rand(4, 50)
    values, places = take_best(scores, 7)
    expected = scores.topk(7)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices.int())

    _, places = take_best(torch.tensor([[0.25, 0.5, 0.5, 0.0]]), 4)
    assert places.tolist() == [[1, 2, 0, 3]]
    values, _ = take_best(torch.rand(2, 9), 9)
    assert all(one >= other for row in values.tolist() for one, other in pairwise(row))


def test_a_classifier_without_its_pooler_is_refused(bert):
    """It looks through the pooler, which would be random numbers."""
    from safetensors.torch import load_file, save_file

    path = bert.model.folder / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(path).items() if "pooler" not in name}
    save_file(weights, path, metadata={"format": "pt"})

    with pytest.raises(ModelError, match=r"needs weights that are not there: .*pooler\.dense"):
        load_program(bert, "float32")
