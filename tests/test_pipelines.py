"""`pipeline()`: how it is set up, what it refuses, and that it goes the way of a job."""

import dataclasses
import re
from pathlib import Path

import datasets
import numpy as np
import pytest

import batchneuron
from batchneuron import pipeline
from batchneuron.artifacts import default_cache
from batchneuron.errors import ModelError
from batchneuron.interactive.modeling import (
    NeuronModelForQuestionAnswering,
    NeuronModelForSequenceClassification,
    NeuronSentenceTransformers,
)
from batchneuron.interactive.pipelines import InputRefused
from batchneuron.run import run_job
from batchneuron.tasks import KINDS
from tests.faults.harness import read_rows
from tests.parity.record_answers import build_model, make_pairs
from tests.parity.test_fill_mask import save_filler
from tests.tiny import make_texts, save_bert, save_tokenizer

GUIDE = Path(__file__).parent.parent / "docs" / "pipelines.md"
LONG = "alpha " * 60
TEXTS = make_texts(7, longest=12)


def save_roomy(folder, *labels):
    """A classifier that takes 300 tokens, with a tokenizer that says so."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    save_bert(folder, labels=labels, seed=1)
    config = BertConfig.from_pretrained(folder, max_position_embeddings=300)
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder, model_max_length=300).save_pretrained(folder)
    return folder


@pytest.fixture
def roomy(tmp_path):
    return save_roomy(tmp_path / "roomy", "no", "yes")


def test_the_modules_of_optimum_neuron_are_there():
    from batchneuron import modeling, pipelines

    assert pipelines.pipeline is pipeline
    models = {name for name in batchneuron.__all__ if name.startswith("Neuron")}
    assert models == set(modeling.__all__)
    assert all(getattr(modeling, name) is getattr(batchneuron, name) for name in models)


def test_the_default_call_works(classifier, monkeypatch):
    task = "text-classification"
    monkeypatch.setitem(KINDS, task, dataclasses.replace(KINDS[task], default_model=str(classifier)))

    made = pipeline(task="text-classification")("I like you. I love you.")

    assert [set(one) for one in made] == [{"label", "score"}]


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, "1x128"),
        ({"input_shapes": {"sequence_length": 64}}, "1x64"),
        ({"input_shapes": {"batch_size": 2}}, "2x128"),
        ({"batch_size": 3, "sequence_length": 16}, "3x16"),
        ({"batch_size": 3, "input_shapes": {"batch_size": 3}, "export": True}, "3x128"),
    ],
    ids=str,
)
def test_each_axis_has_its_own_default(arguments, shape, roomy):
    ours = pipeline("text-classification", model=roomy, **arguments)

    assert str(ours.export.shape) == shape
    assert len(ours(TEXTS[:2])) == 2


def test_the_default_length_is_within_what_the_model_takes(classifier):
    assert str(pipeline("text-classification", model=classifier).export.shape) == "1x48"


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, {"input_shapes": {"sequence_length": 49}}),
        (ValueError, {"input_shapes": {"height": 3}}),
        (ValueError, {"input_shapes": {"batch_size": 0}}),
        (ValueError, {"batch_size": 2, "input_shapes": {"batch_size": 3}}),
        (ValueError, {"task": "text-generation"}),
        (ValueError, {"device": "cuda"}),
        (ValueError, {"dtype": "int8"}),
        (ValueError, {"top_k": 0}),
        (TypeError, {"compiler_args": {"opt_level": 3}}),
        (TypeError, {"topk": 3}),
        (TypeError, {"model": 3}),
        (TypeError, {"tokenizer": 3}),
        (ModelError, {"model": "no/such/folder"}),
        (ModelError, {"task": "fill-mask"}),
    ],
    ids=str,
)
def test_arguments_that_mean_nothing_are_refused(error, arguments, classifier):
    with pytest.raises(error):
        given = {"task": "text-classification", "model": classifier, **arguments}
        pipeline(**given)(TEXTS[0])


def test_the_task_follows_from_the_model(classifier, encoder):
    assert pipeline(model=classifier).task == "text-classification"
    assert pipeline(model=encoder).task == "feature-extraction"
    assert pipeline(model=NeuronModelForSequenceClassification.from_pretrained(classifier)).task == (
        "text-classification"
    )
    with pytest.raises(ValueError, match="give a task, or a model"):
        pipeline()


def test_texts_beyond_the_compiled_shape_are_refused_and_cut_when_asked(roomy):
    ours = pipeline("text-classification", model=roomy, sequence_length=16)

    with pytest.raises(InputRefused, match="62 tokens, and the longest shape holds 16"):
        ours([TEXTS[0], LONG])
    with pytest.raises(ValueError, match="truncation=True"):
        ours(LONG, truncation=False, max_length=8)
    cut = ours(LONG, truncation=True)
    assert cut == ours("alpha " * 14) != ours(LONG, truncation=True, max_length=8)
    assert ours(LONG, max_length=8, padding="max_length") == ours("alpha " * 6)


def test_inputs_that_have_no_prediction_say_why(classifier):
    ours = pipeline("text-classification", model=classifier)

    for wrong in (None, 7, [["a", "b"]], [None], {"text": None}, [{"words": "a"}]):
        with pytest.raises((ValueError, TypeError)):
            ours(wrong)
    for arguments in ((), ("a", "b")):
        with pytest.raises(TypeError, match="one input"):
            ours(*arguments)


def test_a_data_set_is_read_as_predictions_are_taken(classifier):
    ours = pipeline("text-classification", model=classifier, batch_size=2)
    rows = datasets.Dataset.from_dict({"text": TEXTS, "id": list(range(7))})
    wanted = ours(TEXTS)

    assert list(ours(rows)) == list(ours(rows.to_iterable_dataset())) == list(ours(rows["text"])) == wanted
    taken = []
    made = ours(taken.append(text) or text for text in TEXTS)
    assert taken == []
    assert next(made) == wanted[0]
    assert taken == TEXTS[:2]


def test_questions_in_all_the_ways_there_are(tmp_path):
    build_model(tmp_path, "bert")
    ask = pipeline("question-answering", model=tmp_path, batch_size=3)
    first, second = make_pairs()[5:7]
    wanted = ask(**first)

    assert set(wanted) == {"score", "start", "end", "answer"}
    assert first["context"][wanted["start"] : wanted["end"]] == wanted["answer"]
    assert ask(first) == ask([first]) == ask(first["question"], first["context"]) == wanted
    assert ask(question=[first["question"]], context=first["context"]) == wanted
    both = [wanted, ask(second)]
    assert ask([first, second]) == list(ask(pair for pair in (first, second))) == both
    assert (
        ask(question=[first["question"], second["question"]], context=[first["context"], second["context"]])
        == both
    )
    assert len(ask(first, top_k=3)) == 3
    with pytest.raises(ValueError, match="raise max_seq_len, or compile") as caught:
        ask({"question": "alpha " * 20, "context": "beta"}, max_seq_len=8)
    assert "truncation" not in str(caught.value)
    with pytest.raises(ValueError, match="no context"):
        ask(question="who?", context="")
    with pytest.raises(ValueError, match="same length"):
        ask(question=["who?"], context=["a", "b"])


def test_a_model_with_its_tokenizer_answers_as_its_folder_does(tmp_path):
    from transformers import AutoTokenizer

    build_model(tmp_path, "bert")
    model = NeuronModelForQuestionAnswering.from_pretrained(tmp_path, batch_size=2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)

    made = pipeline("question-answering", model=model, tokenizer=tokenizer)(make_pairs())

    wanted = pipeline("question-answering", model=tmp_path)(make_pairs())
    assert [one["answer"] for one in made] == [one["answer"] for one in wanted]
    np.testing.assert_allclose([one["score"] for one in made], [one["score"] for one in wanted], atol=1e-6)
    with pytest.raises(ValueError, match="is no model of fill-mask"):
        pipeline("fill-mask", model=model)
    with pytest.raises(ValueError, match="is compiled for"):
        pipeline(model=model, batch_size=3)


def test_a_text_without_a_mask(tmp_path, monkeypatch):
    fill = pipeline("fill-mask", model=save_filler(tmp_path, "bert", monkeypatch))

    with pytest.raises(InputRefused, match="the mask token is not in the text"):
        fill(["alpha [MASK]", "beta"])


def test_a_token_opens_a_private_model(classifier, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **how: asked.update(how) or classifier
    )

    made = pipeline("text-classification", model="someone/private", token="hf_x", revision="new")

    assert (asked["token"], asked["revision"]) == ("hf_x", "new")
    assert "*.safetensors" in asked["allow_patterns"]
    assert made.export.model.id == "someone/private"
    assert made(TEXTS[0]) == pipeline("text-classification", model=classifier)(TEXTS[0])


def test_zero_shot_needs_labels(tmp_path):
    judge = pipeline(
        "zero-shot-classification",
        model=save_bert(tmp_path, labels=["contradiction", "neutral", "entailment"]),
    )

    with pytest.raises(ValueError, match=r"there are no labels \(set it, or name a column"):
        judge(TEXTS[0])
    assert judge(TEXTS[0], ["alpha", "mu"]) == judge(sequences=TEXTS[0], candidate_labels="alpha,mu")


def test_a_rows_own_labels_go_before_those_of_the_call(tmp_path):
    judge = pipeline(
        "zero-shot-classification", model=save_bert(tmp_path, labels=["contradiction", "entailment"])
    )
    own = {"text": "alpha", "candidate_labels": ["mu", "beta"]}
    rows = [own, "alpha", {"text": "alpha"}, {**own, "candidate_labels": "mu, beta"}]

    made = judge(rows, candidate_labels=["gamma"])

    assert [sorted(one["labels"]) for one in made] == [["beta", "mu"], ["gamma"], ["gamma"], ["beta", "mu"]]
    assert made[0] == made[3] == judge(own) == judge("alpha", ["mu", "beta"])
    assert list(judge(row for row in rows[:1])) == made[:1]
    for wrong in ([], [1], 3, " , "):
        with pytest.raises(ValueError, match="candidate_labels"):
            judge({"text": "alpha", "candidate_labels": wrong}, ["gamma"])


def test_vectors_of_a_sentence_model_are_pooled(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    base = Transformer(str(save_bert(tmp_path / "bert")))
    pooling = Pooling(base.get_embedding_dimension(), pooling_mode="cls")
    SentenceTransformer(modules=[base, pooling, Normalize()], device="cpu").save(str(tmp_path / "st"))
    wanted = SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS)
    ours = pipeline("feature-extraction", model=tmp_path / "st", batch_size=3)

    np.testing.assert_allclose(ours(TEXTS), wanted, atol=1e-6)
    assert isinstance(ours(TEXTS[0])[0], float)
    assert ours(TEXTS[0], return_tensors=True).shape == (16,)
    opened = NeuronSentenceTransformers.from_pretrained(tmp_path / "st", batch_size=3)
    np.testing.assert_allclose(pipeline(model=opened)(TEXTS), wanted, atol=1e-6)


def test_pooling_by_name_of_a_plain_model(encoder):
    ours = pipeline("feature-extraction", model=encoder)

    np.testing.assert_allclose(ours(TEXTS[0], pooling="mean"), np.mean(ours(TEXTS[0])[0], axis=0), atol=1e-6)


def test_a_job_and_a_pipeline_share_program_and_predictions(make_spec, classifier, tmp_path):
    run_job(make_spec("shapes={batch_size: 1, sequence_length: 48}"))
    known = set(default_cache().iterdir())
    rows = read_rows(tmp_path / "out")

    made = pipeline("text-classification", model=classifier)(rows["text"].to_pylist())

    assert set(default_cache().iterdir()) == known, "nothing was compiled again"
    assert [one["label"] for one in made] == rows["label"].to_pylist()
    np.testing.assert_allclose([one["score"] for one in made], rows["score"].to_numpy(), atol=1e-6)


def test_options_that_matter_on_the_host_alone_need_no_other_program(classifier):
    ours = pipeline("text-classification", model=classifier)

    for options in ({}, {"top_k": 2}, {"top_k": None}):
        ours(TEXTS[0], **options)
    assert len(list(default_cache().iterdir())) == 1
    ours(TEXTS[0], function_to_apply="sigmoid")
    assert len(list(default_cache().iterdir())) == 2


def test_another_tokenizer_than_the_models_own(classifier, tmp_path):
    from transformers import AutoTokenizer

    same = AutoTokenizer.from_pretrained(classifier)
    assert pipeline(
        "ner" and "text-classification", model=classifier, tokenizer=same
    ).export.model.folder == (classifier)
    save_tokenizer(tmp_path)
    settings = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(settings.replace('"lowercase": true', '"lowercase": false'))
    own = pipeline("text-classification", model=classifier)
    for other in (str(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        ours = pipeline("text-classification", model=classifier, tokenizer=other)
        assert ours("alpha") == own("alpha")
        assert ours("ALPHA") == own("[UNK]") != own("ALPHA")


def test_the_process_keeps_its_threads(classifier):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    pipeline("text-classification", model=classifier)(TEXTS[0])
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


def test_importing_the_package_by_name_is_lazy():
    assert batchneuron.pipeline is pipeline
    with pytest.raises(AttributeError):
        _ = batchneuron.pipelin


def test_the_guides_snippets_run_as_written(tmp_path, monkeypatch):
    """With another model's folder in the place of each id; no more is changed."""
    from tests.parity import test_token_classification

    monkeypatch.chdir(tmp_path)
    classifier = save_roomy(tmp_path / "c", "NEGATIVE", "POSITIVE")
    answering, tagging, judging = tmp_path / "a", tmp_path / "t", tmp_path / "j"
    build_model(answering, "bert")
    test_token_classification.save_model(tagging, "bert", monkeypatch)
    save_bert(judging, labels=["contradiction", "entailment"])
    task = "text-classification"
    monkeypatch.setitem(KINDS, task, dataclasses.replace(KINDS[task], default_model=str(classifier)))
    places = {
        "deepset/roberta-base-squad2": answering,
        "dslim/bert-base-NER": tagging,
        "distilbert-base-uncased-finetuned-sst-2-english": classifier,
        "sentence-transformers/all-MiniLM-L6-v2": save_bert(tmp_path / "e"),
        "MoritzLaurer/deberta-v3-base-zeroshot-v2.0": judging,
    }
    snippets = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)
    assert len(snippets) >= 5
    known = {}
    for snippet in snippets:
        for name, folder in places.items():
            snippet = snippet.replace(f'"{name}"', repr(str(folder)))
        exec(compile(snippet, str(GUIDE), "exec"), known)
    assert known["pred"]
