"""What a pipeline opens once and holds at a time, whatever its calls ask for."""

import numpy as np
import pytest
from PIL import Image

from batchneuron import pipeline
from batchneuron.interactive.modeling import NeuronModelForMaskedLM
from batchneuron.interactive.pipelines import Pipeline
from batchneuron.model import resolve_model
from batchneuron.spec.sections import ModelSpec
from batchneuron.stages import tokenize
from batchneuron.tasks import KINDS, image_classification, open_task
from tests.parity import test_fill_mask, test_image_classification
from tests.tiny import save_bert

TEXT_TASKS = [name for name, kind in KINDS.items() if "input_ids" in kind.program_inputs]


@pytest.fixture(scope="module")
def judging(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("judging"), labels=["contradiction", "entailment"])


@pytest.fixture(scope="module")
def looking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("looking")
    test_image_classification.save_model(folder, "vit")
    return folder


@pytest.fixture
def opened(monkeypatch):
    """A list with an entry for each tokenizer or image processor that is opened."""
    made = []
    known = tokenize.open_tokenizer
    monkeypatch.setattr(tokenize, "open_tokenizer", lambda model: made.append(model) or known(model))
    processor = image_classification.open_processor
    monkeypatch.setattr(
        image_classification, "open_processor", lambda model: made.append(model) or processor(model)
    )
    return made


def make_images(count):
    noise = np.random.default_rng(1).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


@pytest.mark.parametrize("task", TEXT_TASKS)
def test_a_task_takes_the_tokenizer_of_an_encoder(task, judging, opened):
    model = resolve_model(ModelSpec(id=str(judging)), "")
    first = open_task(task, {}, model).open_encoder()
    count = len(opened)

    second = open_task(task, {}, model, first).open_encoder()

    assert second.tokenizer is first.tokenizer
    assert len(opened) == count


def test_other_labels_in_each_call_open_no_tokenizer(judging, opened):
    ours = pipeline("zero-shot-classification", model=judging)
    ours("alpha beta", ["lambda"])
    count, wanted = len(opened), {}
    for labels in (["alpha"], ["beta", "mu"], ["gamma"], ["delta"], ["eta"], ["zeta"]):
        wanted[tuple(labels)] = ours("alpha beta", labels)

    assert len(opened) == count
    for labels, answer in wanted.items():
        assert pipeline("zero-shot-classification", model=judging)("alpha beta", list(labels)) == answer


def test_other_targets_open_no_tokenizer(tmp_path, monkeypatch, opened):
    model = NeuronModelForMaskedLM.from_pretrained(test_fill_mask.save_filler(tmp_path, "bert", monkeypatch))
    ours = pipeline("fill-mask", model=model)
    wanted = ours("alpha [MASK]", top_k=12)
    count = len(opened)

    for target in ("beta", "mu", "gamma"):
        (made,) = ours("alpha [MASK]", targets=[target])
        assert made["token_str"] == target
    assert ours("alpha [MASK]", top_k=3) == wanted[:3]

    assert len(opened) == count


def test_another_top_k_opens_no_image_processor(looking, opened):
    ours, (image,) = pipeline("image-classification", model=looking), make_images(1)
    wanted = ours(image, top_k=3)

    assert [ours(image, top_k=count) for count in (1, 2)] == [wanted[:1], wanted[:2]]
    assert len(opened) == 1


@pytest.mark.parametrize(("batch_size", "pieces"), [(1, [16, 16, 5]), (20, [20, 17])])
def test_few_images_of_a_list_are_held_at_once(batch_size, pieces, looking, monkeypatch):
    held = []
    known = Pipeline._predict
    monkeypatch.setattr(
        Pipeline,
        "_predict",
        lambda self, rows, settings: held.append(len(rows)) or known(self, rows, settings),
    )

    made = pipeline("image-classification", model=looking, batch_size=batch_size)(make_images(37))

    assert held == pieces
    assert len(made) == 37
