"""`NeuronModelFor…`: tensors in, transformers' outputs out; saved, loaded again, uploaded."""

import json
import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import transformers

from batchneuron.artifacts import default_cache
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import BackendError, ModelError
from batchneuron.interactive import modeling
from batchneuron.interactive.modeling import (
    NeuronModelForFeatureExtraction,
    NeuronModelForImageClassification,
    NeuronModelForMaskedLM,
    NeuronModelForQuestionAnswering,
    NeuronModelForSequenceClassification,
    NeuronModelForTokenClassification,
    NeuronSentenceTransformers,
)
from tests.parity import test_fill_mask, test_image_classification, test_token_classification
from tests.parity.record_answers import build_model
from tests.parity.test_architectures import save_model
from tests.tiny import make_texts, save_bert

TEXTS = make_texts(7, longest=12)


def tokenize(folder, **options):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return tokenizer(TEXTS, return_tensors="pt", padding=True, **options)


def save_for(task, folder, monkeypatch):
    if task == "question-answering":
        build_model(folder, "bert")
    elif task == "fill-mask":
        test_fill_mask.save_filler(folder, "bert", monkeypatch)
    elif task == "token-classification":
        test_token_classification.save_model(folder, "bert", monkeypatch)
    else:
        save_bert(folder, labels=["a", "b", "c"] if task == "text-classification" else [])
    return folder


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (NeuronModelForFeatureExtraction, "AutoModel", ["last_hidden_state"]),
        (NeuronModelForMaskedLM, "AutoModelForMaskedLM", ["logits"]),
        (NeuronModelForSequenceClassification, "AutoModelForSequenceClassification", ["logits"]),
        (NeuronModelForTokenClassification, "AutoModelForTokenClassification", ["logits"]),
        (NeuronModelForQuestionAnswering, "AutoModelForQuestionAnswering", ["start_logits", "end_logits"]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_outputs_are_those_of_the_model(ours, theirs, names, batch_size, tmp_path, monkeypatch):
    folder = save_for(ours.task, tmp_path, monkeypatch)
    inputs = tokenize(folder)
    with torch.inference_mode():
        wanted = getattr(transformers, theirs).from_pretrained(folder).eval()(**inputs)

    made = ours.from_pretrained(folder, batch_size=batch_size)(**inputs, position_of_the_moon=1)

    assert list(made) == names
    assert isinstance(made, transformers.utils.ModelOutput)
    mask = inputs["attention_mask"].bool()
    for name in names:
        assert made[name].shape == wanted[name].shape
        if name != "logits" or made[name].shape[1] == mask.shape[1]:
            torch.testing.assert_close(made[name][mask], wanted[name][mask], rtol=1e-5, atol=1e-5)
        else:
            torch.testing.assert_close(made[name], wanted[name], rtol=0, atol=1e-5)


def test_images(tmp_path):
    test_image_classification.save_model(tmp_path, "vit")
    pixels = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)(pixels).logits

    model = NeuronModelForImageClassification.from_pretrained(tmp_path, batch_size=2)

    torch.testing.assert_close(model(pixel_values=pixels).logits, wanted, rtol=0, atol=1e-5)
    assert model.main_input_name == "pixel_values"
    with pytest.raises(ValueError, match=r"pixel_values is a tensor \[images, channels, height, width\]"):
        model(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match="needs pixel_values"):
        model()


def test_as_many_classes_as_tokens_are_not_taken_for_tokens(tmp_path):
    folder = save_bert(tmp_path, labels=[f"label {number}" for number in range(16)])

    model = NeuronModelForSequenceClassification.from_pretrained(folder, sequence_length=16)

    assert model(input_ids=torch.tensor([[2, 5, 3]])).logits.shape == (1, 16)


def test_left_padding_and_holes_in_the_mask(classifier):
    inputs = tokenize(classifier, padding_side="left")
    inputs["attention_mask"][:, -3] = 0
    with torch.inference_mode():
        known = transformers.AutoModelForSequenceClassification.from_pretrained(classifier)
        wanted = known(**inputs).logits

    made = NeuronModelForSequenceClassification.from_pretrained(classifier, batch_size=2)(**inputs).logits

    torch.testing.assert_close(made, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "deberta-v2"])
def test_inputs_that_are_missing_and_inputs_that_are_too_many(kind, tmp_path, monkeypatch):
    folder = save_model(tmp_path, kind, monkeypatch)
    model = NeuronModelForSequenceClassification.from_pretrained(folder)
    known = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    ids = torch.tensor([[2, 9, 10, 3]])
    with torch.inference_mode():
        wanted = known(input_ids=ids).logits

    for beside in ({}, {"token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids)}):
        torch.testing.assert_close(model(ids, **beside).logits, wanted, rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused(classifier):
    model = NeuronModelForSequenceClassification.from_pretrained(classifier, sequence_length=4)

    with pytest.raises(ValueError, match="5 tokens, and the model is compiled for 4"):
        model(torch.ones(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="needs input_ids"):
        model(attention_mask=torch.ones(1, 4))
    with pytest.raises(ValueError, match=r"input_ids is a tensor \[rows, tokens\], and this one is \[3\]"):
        model(torch.ones(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"attention_mask is a tensor \[rows, tokens\]"):
        model(torch.ones(1, 3, dtype=torch.long), torch.ones(3))
    with pytest.raises(ValueError, match="no rows"):
        model(torch.ones(0, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="takes 48 tokens"):
        NeuronModelForSequenceClassification.from_pretrained(classifier, sequence_length=64)
    with pytest.raises(TypeError, match="no option 'opt'"):
        NeuronModelForSequenceClassification.from_pretrained(classifier, opt=3)
    with pytest.raises(ModelError, match="needs weights that are not there"):
        NeuronModelForMaskedLM.from_pretrained(classifier)


def test_what_transformers_asks_of_a_model(classifier):
    model = NeuronModelForSequenceClassification.from_pretrained(classifier, optlevel="3")

    assert model.device == torch.device("cpu")
    assert model.dtype == torch.float32
    assert model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert model.input_static_shapes == {"batch_size": 1, "sequence_length": 48}
    assert (model.neuron_config.optlevel, model.neuron_config.batch_size) == ("3", 1)
    assert (model.main_input_name, model.input_modalities, model.can_generate()) == (
        "input_ids",
        "text",
        False,
    )
    assert model.to("cpu") is model.eval() is model
    with pytest.raises(BackendError, match="cannot be moved"):
        model.to("meta")
    other = transformers.AutoConfig.from_pretrained(classifier, id2label={0: "x", 1: "y", 2: "z"})
    shown = NeuronModelForSequenceClassification.from_pretrained(classifier, config=other).config
    assert shown.id2label[0] == "x"


def test_a_saved_model_is_loaded_without_compiling(classifier, tmp_path, monkeypatch):
    model = NeuronModelForSequenceClassification.from_pretrained(
        classifier, export=True, batch_size=2, sequence_length=24, auto_cast="matmul", auto_cast_type="bf16"
    )
    model.save_pretrained(tmp_path / "saved")
    shutil.rmtree(default_cache())
    monkeypatch.setattr(TorchBackend, "compile", None)

    again = NeuronModelForSequenceClassification.from_pretrained(tmp_path / "saved")

    assert again.input_static_shapes == {"batch_size": 2, "sequence_length": 24}
    inputs = tokenize(tmp_path / "saved")
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    section = json.loads((tmp_path / "saved" / "config.json").read_text())["neuron"]
    known = {"compiler_type": "torch", "task": "text-classification", "auto_cast": "matmul"}
    known |= {"static_batch_size": 2, "static_sequence_length": 24, "auto_cast_type": "bf16"}
    assert known.items() <= section.items()
    assert again.export.model.digest == model.export.model.digest
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(plain(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match="in this folder already"):
        again.save_pretrained(tmp_path / "saved")


def test_a_saved_model_is_compiled_anew_for_another_shape_or_when_it_was_changed(classifier, tmp_path):
    saved = tmp_path / "saved"
    model = NeuronModelForSequenceClassification.from_pretrained(classifier, batch_size=2)
    model.save_pretrained(saved)
    load = NeuronModelForSequenceClassification.from_pretrained

    assert load(saved, sequence_length=8).input_static_shapes == {"batch_size": 2, "sequence_length": 8}
    assert load(saved, export=True).input_static_shapes == {"batch_size": 1, "sequence_length": 48}
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.5}))
    changed = load(saved)
    assert changed.export.model.digest != model.export.model.digest
    inputs = tokenize(saved)
    assert not torch.allclose(changed(**inputs).logits, model(**inputs).logits, atol=1e-3)


def test_weights_of_another_type_are_remembered(classifier, tmp_path):
    model = NeuronModelForSequenceClassification.from_pretrained(classifier, torch_dtype=torch.bfloat16)
    model.save_pretrained(tmp_path)

    assert NeuronModelForSequenceClassification.from_pretrained(tmp_path).dtype == torch.bfloat16


def test_a_model_of_optimum_neuron_is_recognised(classifier, tmp_path):
    config = json.loads((classifier / "config.json").read_text())
    section = {"compiler_type": "neuronx-cc", "static_batch_size": 1, "static_sequence_length": 128}
    (tmp_path / "config.json").write_text(json.dumps({**config, "neuron": section}))
    (tmp_path / "model.neuron").write_bytes(b"PK")

    with pytest.raises(BackendError, match="needs the backend neuron-trace"):
        NeuronModelForSequenceClassification.from_pretrained(tmp_path)


class FakeHub:
    """Stands for `huggingface_hub.HfApi`."""

    calls: ClassVar[list] = []

    def __init__(self, **opening):
        self.calls.append(opening)

    def create_repo(self, name, **options):
        self.calls.append((name, options))
        return type("Url", (), {"repo_id": f"someone/{name}"})

    def upload_folder(self, folder_path, **options):
        self.calls.append((sorted(path.name for path in Path(folder_path).iterdir()), options))


@pytest.mark.parametrize("is_saved", [True, False])
def test_uploading(is_saved, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "calls", [])
    model = NeuronModelForSequenceClassification.from_pretrained(classifier)

    if is_saved:
        given = {"repository_id": "mine", "private": True, "revision": "new", "use_auth_token": "hf_x"}
        made = model.push_to_hub(tmp_path / "saved", **given)
    else:
        made = model.push_to_hub("mine", private=True, revision="new", token="hf_x")

    assert made == "someone/mine"
    files = ["batchneuron", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert FakeHub.calls == [
        {"endpoint": None, "token": "hf_x"},
        ("mine", {"private": True, "exist_ok": True}),
        (files, {"repo_id": "someone/mine", "revision": "new"}),
    ]


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A sentence-transformers folder, and the library's own model of it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    folder = tmp_path_factory.mktemp("sentences")
    base = Transformer(str(save_bert(folder / "bert")))
    pooling = Pooling(base.get_embedding_dimension(), pooling_mode="mean")
    prompts = {"query": "alpha beta ", "passage": "mu "}
    SentenceTransformer(modules=[base, pooling], device="cpu", prompts=prompts).save(str(folder / "st"))
    return folder / "st", SentenceTransformer(str(folder / "st"), device="cpu")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_vectors_of_sentences_come_in_their_order(sentences, batch_size):
    folder, known = sentences
    model = NeuronSentenceTransformers.from_pretrained(folder, batch_size=batch_size)
    texts = ["a", "b b b b", "c c", *TEXTS]

    for options in ({}, {"normalize_embeddings": True}, {"prompt_name": "query"}, {"prompt": "zeta "}):
        np.testing.assert_allclose(model.encode(texts, **options), known.encode(texts, **options), atol=1e-5)
    np.testing.assert_allclose(model.encode("b b"), known.encode("b b"), atol=1e-5)
    assert isinstance(model.encode(texts, convert_to_tensor=True), torch.Tensor)
    assert isinstance(model.encode(texts, convert_to_numpy=False)[0], torch.Tensor)
    tokens = model.encode(texts, output_value="token_embeddings")
    wanted = known.encode(texts, output_value="token_embeddings")
    for made, vectors in zip(tokens, wanted, strict=True):
        np.testing.assert_allclose(made, vectors, atol=1e-5)
    assert len(model.encode([])) == 0
    assert model.prompts["query"] == "alpha beta "


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(sentences, name, monkeypatch):
    folder, known = sentences
    model = NeuronSentenceTransformers.from_pretrained(folder)
    assert model.similarity_fn_name == "cosine"
    vectors = model.encode(TEXTS)
    monkeypatch.setattr(known, "similarity_fn_name", name)
    model.similarity_fn_name = name

    torch.testing.assert_close(model.similarity(vectors[:2], vectors), known.similarity(vectors[:2], vectors))
    torch.testing.assert_close(model.similarity(vectors[0], vectors), known.similarity(vectors[0], vectors))


def test_sentences_with_tensors_and_what_they_refuse(sentences, tmp_path):
    folder, known = sentences
    model = NeuronSentenceTransformers.from_pretrained(folder, batch_size=2, sequence_length=24)

    outputs = model(**tokenize(folder))

    np.testing.assert_allclose(outputs.sentence_embedding, known.encode(TEXTS), atol=1e-5)
    assert outputs.token_embeddings.shape[:2] == tokenize(folder)["input_ids"].shape
    with pytest.raises(ValueError, match="and the longest shape holds 24"):
        model.encode(["a", "alpha " * 30])
    with pytest.raises(ValueError, match="no prompt 'other'"):
        model.encode("a", prompt_name="other")
    with pytest.raises(ValueError, match="output_value"):
        model.encode("a", output_value="all")
    model.save_pretrained(tmp_path)
    again = NeuronSentenceTransformers.from_pretrained(tmp_path)
    np.testing.assert_allclose(again.encode(TEXTS), known.encode(TEXTS), atol=1e-5)


def test_every_model_of_a_task_has_its_class():
    from batchneuron.tasks import KINDS

    for name, kind in KINDS.items():
        model = modeling.class_of(name)
        head = kind.auto_model.removeprefix("AutoModelFor").removeprefix("AutoModel") or "FeatureExtraction"
        assert model.__name__ == f"NeuronModelFor{head}"
