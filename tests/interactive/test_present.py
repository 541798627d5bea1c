"""What callers may say and what they get, without a model: settings, inputs, and Arrow rows to objects."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from batchneuron.interactive.present import CONVENTIONS, Settings, read_settings
from batchneuron.tasks import KINDS

PLAIN = SimpleNamespace(sentence=None)


def read(task, **given):
    return read_settings(KINDS[task], PLAIN, given)


def show(task, table, rows=(), **given):
    return CONVENTIONS[task].show(pa.table(table), rows, read(task, **given))


def test_every_task_has_a_convention():
    assert CONVENTIONS.keys() == KINDS.keys()
    for name, convention in CONVENTIONS.items():
        assert set(convention.program_options) <= KINDS[name].options.model_fields.keys()


@pytest.mark.parametrize(
    ("task", "given", "options"),
    [
        ("text-classification", {"top_k": None}, {"top_k": "all"}),
        ("text-classification", {"function_to_apply": "SoftMax"}, {"function_to_apply": "softmax"}),
        ("text-classification", {"function_to_apply": "default"}, {"function_to_apply": "auto"}),
        ("text-classification", {"function_to_apply": None}, {"function_to_apply": "auto"}),
        ("image-classification", {"top_k": None}, {"top_k": 5}),
        ("fill-mask", {"targets": "beta"}, {"targets": ["beta"]}),
        ("token-classification", {"aggregation_strategy": "SIMPLE"}, {"aggregation_strategy": "simple"}),
        ("token-classification", {"ignore_labels": ("A",)}, {"ignore_labels": ["A"]}),
        ("feature-extraction", {}, {"pooling": "none", "normalize": False}),
        ("feature-extraction", {"pooling": "cls"}, {"pooling": "cls"}),
        ("question-answering", {"padding": "longest", "top_k": 2}, {"top_k": 2}),
    ],
    ids=str,
)
def test_options_in_transformers_words(task, given, options):
    assert options.items() <= read(task, **given).options.items()


def test_an_enumeration_is_taken_for_its_value():
    from transformers.pipelines.token_classification import AggregationStrategy

    made = read("token-classification", aggregation_strategy=AggregationStrategy.MAX)
    assert made.options["aggregation_strategy"] == "max"


def test_where_texts_are_cut():
    assert read("text-classification").truncation is None
    assert read("text-classification", truncation=True).truncation is True
    assert read("text-classification", truncation="do_not_truncate").truncation is False
    cut = read("fill-mask", tokenizer_kwargs={"truncation": True, "max_length": 9})
    assert (cut.truncation, cut.max_length) == (True, 9)
    assert read("feature-extraction", tokenize_kwargs={"max_length": 9}).truncation is True
    assert read("question-answering", max_seq_len=64).max_length == 64


@pytest.mark.parametrize("given", [{"topk": 1}, {"stride": 3}, {"return_tensors": True}])
def test_options_that_do_not_exist(given):
    with pytest.raises(TypeError, match=f"text-classification has no option '{next(iter(given))}'; it has "):
        read("text-classification", **given)


def test_values_that_cannot_be():
    with pytest.raises(ValueError, match="top_k: expected a whole number of at least 1; got 0"):
        read("fill-mask", top_k=0)
    with pytest.raises(
        ValueError, match=r"^top_k: expected a whole number of at least 1, or all; got 'most'$"
    ):
        read("text-classification", top_k="most")
    with pytest.raises(ValueError, match=r"^candidate_labels: expected a list of texts, or text; got \[1\]$"):
        read("zero-shot-classification", candidate_labels=[1])
    with pytest.raises(ValueError, match=r"^hypothesis_template: needs \{\} where the label goes$"):
        read("zero-shot-classification", hypothesis_template="about it")
    with pytest.raises(ValueError, match="run a job"):
        read("feature-extraction", pooling="mean", dtype="int8")


def test_one_label_or_a_list_of_labels():
    table = {"label": ["a", "b"], "score": [0.5, 0.25]}
    one = [{"label": "a", "score": 0.5}, {"label": "b", "score": 0.25}]

    assert show("text-classification", table) == one
    assert show("text-classification", table, top_k=1) == [[label] for label in one]
    assert show("text-classification", {"labels": [one]}, top_k=None) == [one]
    convention = CONVENTIONS["text-classification"]
    assert convention.show_one(one[0], "text", {}) == one[:1]
    assert convention.show_one(one[0], {"text": "text"}, {}) == one[0]
    assert convention.show_one(one[:1], "text", {"top_k": 1}) == one[:1]


def test_entities_have_keys_in_order_and_numpy_scores():
    entity = {"entity": "B", "index": 3, "score": 0.5, "word": "x", "start": None, "end": None}

    made = show("token-classification", {"entities": [[entity], []]})

    assert [list(one) for one in made[0]] == [["entity", "score", "index", "word", "start", "end"]]
    assert type(made[0][0]["score"]) is np.float32
    assert made[1] == []


def test_fills_of_one_mask_and_of_several():
    fill = {"score": 0.5, "token": 1, "token_str": "a", "sequence": "a b"}

    assert show("fill-mask", {"fills": [[[fill]], [[fill], [fill]]]}) == [[fill], [[fill], [fill]]]


def test_answers_one_several_and_none():
    answer = {"answer": "x", "score": 0.5, "start": 1, "end": 2}

    assert show("question-answering", {name: [value] for name, value in answer.items()}) == [answer]
    kind = pa.list_(
        pa.struct(
            [("answer", pa.string()), ("score", pa.float32()), ("start", pa.int32()), ("end", pa.int32())]
        )
    )
    table = {"answers": pa.array([[answer, answer], [answer], []], kind)}
    nothing = {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    assert show("question-answering", table, top_k=2) == [[answer, answer], answer, nothing]


def test_rankings_repeat_the_text():
    made = show("zero-shot-classification", {"labels": [["a"]], "scores": [[1.0]]}, [{"text": "t"}])
    assert made == [{"sequence": "t", "labels": ["a"], "scores": [1.0]}]


def test_vectors_of_tokens_keep_each_texts_own_length():
    kind = pa.list_(pa.list_(pa.float32(), 2))
    table = pa.table({"embedding": pa.array([[[1, 2]], [[3, 4], [5, 6]]], kind)})

    assert show("feature-extraction", table.slice(1)) == [[[[3.0, 4.0], [5.0, 6.0]]]]
    tensors = show("feature-extraction", table, return_tensors=True)
    assert [tuple(tensor.shape) for tensor in tensors] == [(1, 1, 2), (1, 2, 2)]
    pooled = pa.table({"embedding": pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2))})
    assert show("feature-extraction", pooled.slice(1)) == [[3.0, 4.0]]


def test_inputs_that_are_read_and_refused():
    split = Settings({"is_split_into_words": True})
    read_row = {name: convention.read_row for name, convention in CONVENTIONS.items()}

    assert read_row["fill-mask"]({"text": "a", "id": 3}, Settings()) == {"text": "a"}
    assert read_row["text-classification"]([["a", "b"]], Settings()) == {"text": "a", "text_pair": "b"}
    assert read_row["token-classification"](["a", "b"], split) == {"text": ["a", "b"]}
    squad = SimpleNamespace(question_text="who?", context_text="she")
    assert read_row["question-answering"](squad, Settings()) == {"question": "who?", "context": "she"}
    content = {"bytes": b"GIF", "path": None}
    assert read_row["image-classification"]({"image": content}, Settings()) == {"image": content}
    for task, wrong, settings in [
        ("fill-mask", 3, Settings()),
        ("text-classification", ["a", "b"], Settings()),
        ("token-classification", "a b", split),
        ("token-classification", ["a", 3], split),
        ("question-answering", {"question": "who?"}, Settings()),
        ("question-answering", {"question": "who?", "context": None}, Settings()),
    ]:
        with pytest.raises(ValueError, match=" is "):
            read_row[task](wrong, settings)


def test_arrays_are_images():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)

    row = CONVENTIONS["image-classification"].read_row(pixels, Settings())

    import io

    from PIL import Image

    assert (np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) == pixels).all()
