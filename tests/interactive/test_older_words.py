"""Old code: words of optimum-neuron and transformers 4.57 that are read, passed over, or refused by name."""

from types import SimpleNamespace

import pytest

from batchneuron import pipeline
from batchneuron.interactive.modeling import NeuronModelForSequenceClassification
from batchneuron.interactive.older_words import pass_over, rename
from batchneuron.interactive.present import read_settings
from batchneuron.tasks import KINDS
from tests.tiny import make_texts

TEXTS = make_texts(5, longest=12)


@pytest.mark.parametrize(
    ("task", "older", "newer"),
    [
        ("question-answering", {"topk": 3}, {"top_k": 3}),
        ("question-answering", {"topk": 3, "top_k": 2}, {"top_k": 2}),
        ("question-answering", {"topk": None}, {}),
        ("token-classification", {"grouped_entities": True}, {"aggregation_strategy": "simple"}),
        ("token-classification", {"grouped_entities": False}, {"aggregation_strategy": "none"}),
        (
            "token-classification",
            {"grouped_entities": True, "aggregation_strategy": "max"},
            {"aggregation_strategy": "max"},
        ),
        ("zero-shot-classification", {"multi_class": True}, {"multi_label": True}),
        ("text-classification", {"topk": 3}, {"topk": 3}),
    ],
    ids=str,
)
def test_words_that_have_another_name_now(task, older, newer):
    assert rename(task, older) == newer
    if task != "text-classification":
        read_settings(KINDS[task], SimpleNamespace(sentence=None), older)


def test_words_that_ask_for_nothing_are_passed_over():
    idle = {"tensor_parallel_size": 1, "num_cores": 1, "framework": "pt", "config": None, "cache_dir": None}
    idle |= {"subfolder": "", "local_files_only": False, "force_download": False, "output_attentions": False}
    idle |= {"dynamic_batch_size": True, "inline_weights_to_neff": False, "compiler_workdir": "/tmp/x"}

    assert pass_over({**idle, "top_k": 2}) == {"top_k": 2}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"tensor_parallel_size": 2}, r"tensor_parallel_size=2 is not possible: a program runs on one core"),
        ({"num_cores": 2}, "num_cores=2"),
        ({"framework": "tf"}, "models are PyTorch's"),
        ({"config": "some/model"}, "save the configuration there"),
        ({"cache_dir": "/tmp/x"}, "HF_HUB_CACHE"),
        ({"subfolder": "onnx"}, "give that folder"),
        ({"local_files_only": True}, "HF_HUB_OFFLINE"),
        ({"force_download": True}, "hf download"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_refused_with_what_to_do_instead(asked, told, classifier):
    with pytest.raises(ValueError, match=told):
        pipeline("text-classification", model=classifier, **asked)
    if "config" not in asked:  # from_pretrained has one of its own
        with pytest.raises(ValueError, match=told):
            NeuronModelForSequenceClassification.from_pretrained(classifier, **asked)


def test_old_calls_run_as_they_are(classifier):
    idle = {"tensor_parallel_size": 1, "framework": "pt"}
    wanted = pipeline("text-classification", model=classifier)(TEXTS)

    assert pipeline("text-classification", model=classifier, **idle)(TEXTS) == wanted
    hub = {"cache_dir": None, "subfolder": "", "local_files_only": False}
    model = NeuronModelForSequenceClassification.from_pretrained(classifier, **hub, num_cores=1)
    assert model.input_static_shapes["batch_size"] == 1


def test_a_word_that_nobody_knows_is_not_blamed_on_the_compiler(classifier):
    with pytest.raises(TypeError, match="there is no option 'cache'; the compiler has optlevel"):
        NeuronModelForSequenceClassification.from_pretrained(classifier, cache="/tmp/x")


def test_all_scores_come_in_the_order_of_the_classes(classifier):
    """Old code takes a class by its place: `result[0][1]["score"]`."""
    ours = pipeline("text-classification", model=classifier)
    best_first = ours(TEXTS, top_k=None)
    assert any([one["label"] for one in row] != ["bad", "fair", "good"] for row in best_first)

    made = ours(TEXTS, return_all_scores=True)

    assert [[one["label"] for one in row] for row in made] == [["bad", "fair", "good"]] * 5
    assert [sorted(row, key=lambda one: -one["score"]) for row in made] == best_first
    assert ours(TEXTS[0], return_all_scores=True) == [made[0]]
    assert ours(TEXTS[0], return_all_scores=False) == ours(TEXTS[0])
    assert ours(TEXTS[0], return_all_scores=True, top_k=2) == best_first[0][:2]
    assert pipeline("text-classification", model=classifier, return_all_scores=True)(TEXTS) == made
