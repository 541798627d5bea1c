"""What a task can be fed with, as rules of a spec."""

import pytest

from batchneuron.errors import SpecError
from batchneuron.spec.parse import parse_spec
from batchneuron.tasks import INPUTS, KINDS, OPTIONS


def problems(text):
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{text}\noutput: {{path: out}}\n", "job.yaml", (), OPTIONS, INPUTS)
    return [(found.where, found.key, found.what, found.hint) for found in caught.value.problems]


def spec(text):
    return parse_spec(f"{text}\noutput: {{path: out}}\n", "job.yaml", (), OPTIONS, INPUTS)


def test_every_task_says_its_inputs():
    assert INPUTS.keys() == KINDS.keys()
    for name, inputs in INPUTS.items():
        assert set(inputs.or_options) <= set(inputs.names) & OPTIONS[name].model_fields.keys()


def test_wrong_inputs_are_told_with_all_other_mistakes():
    found = problems(
        "task: question-answering\ninput:\n  path: rows.jsonl\n"
        "  columns:\n    questoin: text\n    page: text\n"
        "    context: text\noptions: {topk: 2}"
    )

    assert [problem[:2] for problem in found] == [
        ("job.yaml:5", "input.columns.questoin"),
        ("job.yaml:6", "input.columns.page"),
        ("job.yaml:8", "options.topk"),
    ]
    assert found[0][2:] == ("question-answering has no input 'questoin'", "did you mean 'question'?")
    assert found[1][3] == "it has question, context"


def test_optional_inputs_and_other_tasks_are_let_through():
    text = "task: text-classification\ninput: {path: a.csv, columns: {text: a, text_pair: b}}"
    assert set(spec(text).input.columns) == {"text", "text_pair"}
    assert len(problems("task: no-task\ninput: {path: a.csv, columns: {anything: a}}")) == 1
    assert parse_spec(text.replace("text_pair", "x") + "\noutput: {path: o}", "job.yaml", (), OPTIONS)


JUDGE = "task: zero-shot-classification\ninput: {path: a.csv, columns: {text: a%s}}\noptions: {%s}"


@pytest.mark.parametrize("options", ["", "candidate_labels: null", "multi_label: true"])
def test_labels_come_from_a_column_or_an_option(options):
    ((where, key, what, hint),) = problems(JUDGE % ("", options))

    assert (where, key, what) == ("job.yaml:3", "options.candidate_labels", "is missing")
    assert "input.columns: {candidate_labels: …}" in hint
    assert spec(JUDGE % (", candidate_labels: b", options))
    assert spec(JUDGE % ("", "candidate_labels: [a, b]"))
    assert problems("task: zero-shot-classification\ninput: {path: a.csv}")[0][0] == "job.yaml:1"


@pytest.mark.parametrize(
    ("columns", "options"), [(", candidate_lables: b", ""), ("", "candidate_label: [b]")]
)
def test_misspelt_labels_are_not_missing_as_well(columns, options):
    ((_, _, _, hint),) = problems(JUDGE % (columns, options))

    assert hint == "did you mean 'candidate_labels'?"


def test_tokens_in_two_windows_need_a_way_to_agree():
    job = "task: token-classification\ninput: {path: a.csv}\noptions: {stride: %s, aggregation_strategy: %s}"

    ((where, key, what, _),) = problems(job % (4, "none"))

    assert (where, key) == ("job.yaml:3", "options.stride")
    assert "choose an aggregation_strategy, or stride: 0" in what
    assert spec(job % (0, "none")) and spec(job % (4, "simple")) and spec(job % ("null", "none"))
    assert len(problems(job % (4, "somehow"))) == 1
