"""Folders that optimum-neuron compiled: what is read from them, and one opened on a simulated Inf2."""

import json
import subprocess
import sys

import pytest

from batchneuron.errors import ModelError
from batchneuron.interactive.saved_model import read_section
from batchneuron.programs.optimum_folder import find_program, is_compiled, read_compiled, require_fitting
from tests.simulator.machine import install
from tests.tiny import save_tokenizer

SECTION = {
    "compiler_type": "neuronx-cc",
    "compiler_version": "2.21.18209.0",
    "inline_weights_to_neff": True,
    "static_batch_size": 2,
    "static_sequence_length": 16,
    "dynamic_batch_size": False,
    "optlevel": "2",
    "float_dtype": "fp32",
    "int_dtype": "int64",
    "model_type": "bert",
    "task": "text-classification",
}


@pytest.fixture
def folder(tmp_path):
    config = {"model_type": "bert", "vocab_size": 128, "neuron": SECTION}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.neuron").write_bytes(b"one")
    return tmp_path


def test_a_folder_is_known_by_its_file_or_its_section(folder, classifier):
    assert is_compiled(folder)
    (folder / "model.neuron").rename(folder / "model.pt")
    assert is_compiled(folder)
    assert not is_compiled(classifier)
    ours = {"neuron": {**SECTION, "model_digest": "0" * 64}}
    (folder / "config.json").write_text(json.dumps(ours))
    assert not is_compiled(folder)


def test_its_section_is_read_as_a_saved_folders_is(folder):
    model = read_compiled(folder, "someone/compiled")
    section = read_section(model.config)
    assert (section["static_batch_size"], section["static_sequence_length"]) == (2, 16)
    assert section["task"] == "text-classification"
    assert find_program(model) == folder / "model.neuron"
    assert model.id == "someone/compiled"


def test_the_compiled_file_is_part_of_the_digest(folder):
    before = read_compiled(folder, "x").digest
    assert read_compiled(folder, "x").digest == before
    (folder / "model.neuron").write_bytes(b"two")
    assert read_compiled(folder, "x").digest != before


@pytest.mark.parametrize("change", ["second", "sectionless"])
def test_what_is_not_one_compiled_model_is_refused(folder, change):
    if change == "second":
        (folder / "decoder.neuron").touch()
    else:
        (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="give the model that it was compiled from"):
        read_compiled(folder, "x")


@pytest.mark.parametrize(
    ("task", "shape", "export"),
    [
        ("token-classification", (2, 16), False),
        ("text-classification", (1, 16), False),
        ("text-classification", (2, 128), False),
        ("text-classification", (2, 16), True),
    ],
)
def test_it_serves_its_own_task_and_shape_alone(folder, task, shape, export):
    model = read_compiled(folder, "x")
    require_fitting(model, "text-classification", (2, 16), export=False)
    require_fitting(model, "zero-shot-classification", (2, 16), export=False)
    with pytest.raises(ModelError, match="compiled by optimum-neuron for text-classification, 2x16"):
        require_fitting(model, task, shape, export=export)


# What optimum-neuron's exporter does, and then what its users do.
ROUND = """
import sys, torch, torch_neuronx
from transformers import AutoModelForSequenceClassification
from batchneuron import NeuronModelForSequenceClassification, pipeline

class Wrapper(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.model(input_ids, attention_mask, token_type_ids, return_dict=False)

if __name__ == "__main__":
    source, folder = sys.argv[1:]
    model = AutoModelForSequenceClassification.from_pretrained(source).eval()
    ids, mask, types = (torch.ones(2, 16, dtype=torch.int64) for _ in range(3))
    wrapper = Wrapper(model).eval()
    traced = torch_neuronx.trace(wrapper, (ids, mask, types), compiler_args="--target inf2", cpu_backend=True)
    torch.jit.save(traced, f"{folder}/model.neuron")
    compiled = NeuronModelForSequenceClassification.from_pretrained(folder)
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    got = compiled(input_ids=ids).logits
    assert got.shape == wanted.shape == (1, 3), got.shape
    assert torch.allclose(got, wanted, atol=1e-4), (got, wanted)
    answer = pipeline("text-classification", model=folder, top_k=None)(["alpha beta gamma"])[0]
    assert sorted(one["label"] for one in answer) == ["bad", "fair", "good"], answer
    assert abs(sum(one["score"] for one in answer) - 1) < 1e-5
    compiled.save_pretrained(folder + "/copy")
    again = NeuronModelForSequenceClassification.from_pretrained(folder + "/copy")
    assert torch.equal(again(input_ids=ids).logits, got)
    print("done")
"""


@pytest.mark.thorough
def test_a_compiled_folder_answers_as_the_model_does(folder, classifier, tmp_path_factory):
    config = json.loads((classifier / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "neuron": SECTION}))
    save_tokenizer(folder)
    place = tmp_path_factory.mktemp("machine")
    script = place / "round.py"
    script.write_text(ROUND)
    done = subprocess.run(
        [sys.executable, str(script), str(classifier), str(folder)],
        env=install(place / "inf2", "inf2.xlarge").environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout.endswith("done\n"), done.stderr
