"""`batchneuron.pipeline` gives what transformers' pipeline gives: the same objects, scores within 1e-5."""

import copy
import json
import logging

import numpy as np
import pytest
from PIL import Image

from batchneuron import pipeline
from batchneuron.interactive.modeling import class_of
from tests.parity import (
    test_fill_mask,
    test_image_classification,
    test_token_classification,
)
from tests.parity.record_answers import ANSWERS, CASES, build_model, make_pairs
from tests.tiny import make_texts, save_bert

TASKS = ["text-classification", "feature-extraction", "fill-mask", "token-classification"]
TASKS += ["zero-shot-classification", "image-classification"]
LABELS = ["alpha", "beta gamma", "kappa"]
TEXTS = make_texts(7, longest=12)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tiny model's folder for each task."""
    folders = {task: tmp_path_factory.mktemp(task) for task in TASKS}
    save_bert(folders["text-classification"], labels=["bad", "fair", "good"])
    save_bert(folders["feature-extraction"])
    save_bert(folders["zero-shot-classification"], labels=["contradiction", "neutral", "entailment"])
    with pytest.MonkeyPatch.context() as patch:
        test_token_classification.save_model(folders["token-classification"], "bert", patch)
        test_fill_mask.save_filler(folders["fill-mask"], "bert", patch)
    test_image_classification.save_model(folders["image-classification"], "vit")
    return folders


@pytest.fixture(scope="module")
def theirs(models):
    """transformers' pipeline of each task over that model."""
    import transformers

    return {task: transformers.pipeline(task, model=str(models[task]), device=-1) for task in TASKS}


def make_inputs(task):
    if task == "fill-mask":
        return [
            f"{text} [MASK]" if place % 2 else f"[MASK] {text} [MASK]" for place, text in enumerate(TEXTS)
        ]
    if task == "image-classification":
        noise = np.random.default_rng(1).integers(0, 256, (7, 40, 50, 3), dtype=np.uint8)
        return [Image.fromarray(pixels) for pixels in noise]
    return TEXTS


def needed(task):
    return {"candidate_labels": LABELS} if task == "zero-shot-classification" else {}


def require_same(made, wanted, where="result"):
    """The same types, keys in the same order, values; numbers with a fraction within 1e-5."""
    assert type(made) is type(wanted), f"{where}: {type(made)} for {type(wanted)}"
    if isinstance(wanted, dict):
        assert list(made) == list(wanted), where
        for key, value in wanted.items():
            require_same(made[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(made) == len(wanted), where
        for place, (one, other) in enumerate(zip(made, wanted, strict=True)):
            require_same(one, other, f"{where}[{place}]")
    elif isinstance(wanted, (float, np.floating)):
        assert made == pytest.approx(wanted, abs=1e-5), where
    else:
        assert made == wanted, where


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("task", TASKS)
def test_one_input_a_list_a_generator_and_a_data_set(task, batch_size, models, theirs):
    from transformers.pipelines.pt_utils import KeyDataset

    inputs, options = make_inputs(task), needed(task)
    ours = pipeline(task, model=models[task], batch_size=batch_size)

    require_same(ours(inputs[0], **options), theirs[task](inputs[0], **options))
    require_same(ours(inputs, **options), theirs[task](inputs, **options))
    require_same(ours(inputs[:1], **options), theirs[task](inputs[:1], **options))
    rows = KeyDataset([{"it": one} for one in inputs], "it")
    for lazy in (lambda: (one for one in inputs), lambda: rows):
        made = ours(lazy(), **options)
        assert not isinstance(made, list)
        require_same(list(made), list(theirs[task](lazy(), **options)))
    assert ours([], **options) == []


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("text-classification", {"top_k": None}),
        ("text-classification", {"top_k": 1}),
        ("text-classification", {"top_k": 2, "function_to_apply": "sigmoid"}),
        ("text-classification", {"function_to_apply": "NONE"}),
        ("text-classification", {"truncation": True, "max_length": 5}),
        ("feature-extraction", {"truncation": True, "tokenize_kwargs": {"max_length": 5}}),
        ("fill-mask", {"top_k": 2}),
        ("fill-mask", {"targets": ["beta", "mu"]}),
        ("fill-mask", {"targets": "beta", "top_k": 3}),
        ("token-classification", {"aggregation_strategy": "simple"}),
        ("token-classification", {"aggregation_strategy": "average", "ignore_labels": ["PER"]}),
        ("token-classification", {"ignore_labels": []}),
        ("zero-shot-classification", {"candidate_labels": "alpha, mu", "multi_label": True}),
        ("zero-shot-classification", {"candidate_labels": "alpha", "hypothesis_template": "{} 7"}),
        ("image-classification", {"top_k": 2}),
        ("image-classification", {"function_to_apply": "sigmoid"}),
    ],
    ids=str,
)
def test_options_of_a_call_and_of_the_pipeline(task, options, models, theirs):
    import transformers

    inputs, given = make_inputs(task), {**needed(task), **options}
    ours = pipeline(task, model=models[task], batch_size=3)
    set_up = pipeline(task, model=models[task], **given)
    set_up_theirs = transformers.pipeline(task, model=str(models[task]), device=-1, **copy.deepcopy(given))

    for one in (inputs[0], inputs, inputs[:1]):
        wanted = theirs[task](one, **copy.deepcopy(given))  # it writes into tokenize_kwargs
        require_same(ours(one, **given), wanted)
        require_same(set_up(one), set_up_theirs(one))


def test_pairs_of_texts(models, theirs):
    ours = pipeline("text-classification", model=models["text-classification"], batch_size=3)
    pair = {"text": TEXTS[0], "text_pair": TEXTS[1]}

    for inputs in (pair, [pair, TEXTS[2], {"text": TEXTS[3]}], [[[TEXTS[0], TEXTS[1]]]]):
        for options in ({}, {"top_k": 2}):
            require_same(ours(inputs, **options), theirs["text-classification"](inputs, **options))
    empty = [{**pair, "text_pair": ""}, {"text": " ".join(TEXTS), "text_pair": ""}]
    cut = {"truncation": True, "max_length": 8}
    require_same(ours(empty, **cut), theirs["text-classification"](empty, **cut))


def test_words_that_are_split_already(models, theirs):
    ours = pipeline("ner", model=models["token-classification"])
    words = [text.split() for text in TEXTS]

    for inputs in (words[0], words):
        for options in ({}, {"aggregation_strategy": "first", "delimiter": "-"}):
            given = {"is_split_into_words": True, **options}
            require_same(ours(inputs, **given), theirs["token-classification"](inputs, **given))


def test_long_texts_are_cut_or_split_where_transformers_does(models, theirs):
    long = [" ".join(TEXTS * 3), TEXTS[0]]

    for options in ({}, {"stride": 6, "aggregation_strategy": "simple"}):
        ours = pipeline("token-classification", model=models["token-classification"])
        require_same(ours(long, **options), theirs["token-classification"](long, **options))
    judge = pipeline("zero-shot-classification", model=models["zero-shot-classification"])
    require_same(judge(long, LABELS), theirs["zero-shot-classification"](long, LABELS))


def test_vectors_as_tensors(models, theirs):
    import torch

    ours = pipeline("feature-extraction", model=models["feature-extraction"], return_tensors=True)

    made, wanted = ours(TEXTS[0]), theirs["feature-extraction"](TEXTS[0], return_tensors=True)
    assert made.shape == wanted.shape
    assert torch.allclose(made, wanted, atol=1e-5)


def test_images_by_path_and_as_bytes(models, theirs, tmp_path):
    ours = pipeline("image-classification", model=models["image-classification"])
    make_inputs("image-classification")[0].save(tmp_path / "noise.png")
    path = str(tmp_path / "noise.png")

    wanted = theirs["image-classification"](path)
    require_same(ours(path), wanted)
    require_same(ours((tmp_path / "noise.png").read_bytes()), wanted)
    require_same(ours([path, path]), theirs["image-classification"]([path, path]))


@pytest.mark.parametrize("number", [0, 1, 3, 6])
def test_answers_of_transformers_4_57(number, tmp_path_factory):
    """As recorded; the answers' form is the one that pipeline had."""
    folder = tmp_path_factory.mktemp("answering")
    record = json.loads(ANSWERS.read_text(encoding="utf-8"))["bert"]
    assert build_model(folder, "bert") == record["weights"]
    case, names = CASES[number], ["score", "start", "end", "answer"]
    ours = pipeline("question-answering", model=folder, batch_size=3, sequence_length=64)

    made = ours(make_pairs(), max_seq_len=case["max_seq_len"], **case["options"])

    for one, recorded in zip(made, record["answers"][number], strict=True):
        if recorded is None:  # it hangs on the last bits
            continue
        found = [some for some in (one if isinstance(one, list) else [one]) if some["score"] > 0]
        known = [dict(zip(["answer", "score", "start", "end"], some, strict=True)) for some in recorded]
        known = [{name: some[name] for name in names} for some in known if some["score"] > 0]
        require_same(found, known)


@pytest.mark.parametrize("task", TASKS)
def test_our_models_work_in_their_pipelines_and_in_ours(task, models, theirs, caplog):
    import transformers

    model = class_of(task).from_pretrained(models[task], batch_size=3)
    own = pipeline(task, model=models[task])
    beside = {"tokenizer": own.tokenizer}
    if task == "image-classification":
        beside = {"image_processor": transformers.AutoImageProcessor.from_pretrained(models[task])}
    inputs, options = make_inputs(task), needed(task)
    wanted = theirs[task](inputs, **options)

    transformers.logging.enable_propagation()
    with caplog.at_level(logging.ERROR, logger="transformers"):
        inside = transformers.pipeline(task, model=model, device=model.device, **beside)
    transformers.logging.disable_propagation()

    assert not caplog.records, "transformers knows the class"
    assert type(model).__name__ in repr(inside)
    require_same(inside(inputs, **options), wanted)
    require_same(pipeline(task, model=model, **beside)(inputs, **options), wanted)
