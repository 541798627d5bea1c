from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from batchneuron.errors import SpecError
from batchneuron.spec.parse import parse_spec
from batchneuron.spec.sections import Section

FOUR_LINES = """\
task: text-classification
input: {path: reviews.parquet, columns: {text: body}}
output:
  path: out
"""


class LabelOptions(Section):
    """Options of a task, for these tests."""

    top_k: int | None = Field(1, ge=1)
    function: Literal["softmax", "sigmoid"] = "softmax"
    labels: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self):
        if self.function == "sigmoid" and self.top_k is None:
            raise ValueError("sigmoid needs top_k")
        return self


OPTIONS = {"text-classification": LabelOptions}


def fail(text, options=None):
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "job.yaml", (), options)
    return caught.value.problems


def test_five_mistakes_are_told_at_once_with_lines_and_suggestions():
    problems = fail("""\
task: text-clasification
input:
  path: reviews.parquet
  colums: {text: body}
shapes:
  batch_size: lots
backend:
  workers: -1
output:
  compression: zst
  path: out
""")

    assert [(problem.where, problem.key) for problem in problems] == [
        ("job.yaml:1", "task"),
        ("job.yaml:4", "input.colums"),
        ("job.yaml:6", "shapes.batch_size"),
        ("job.yaml:8", "backend.workers"),
        ("job.yaml:10", "output.compression"),
    ]
    assert [problem.hint for problem in problems] == [
        "did you mean 'text-classification'?",
        "did you mean 'columns'?",
        "",
        "",
        "did you mean 'zstd'?",
    ]
    assert problems[2].what == "expected a whole number of at least 1, or auto; got 'lots'"
    assert problems[3].what == "expected a whole number of at least 0, or auto; got -1"
    assert problems[4].what == "expected one of zstd, snappy, lz4, gzip, none; got 'zst'"


MISTAKES = {
    "input.limit": ("input", "  limit: -1"),
    "input.split": ("input", "  split: 5"),
    "input.columns.text": ("input", "  columns: {text: '{a'}"),
    "input.data_files.train[1]": ("input", "  data_files: {train: [a, 2]}"),
    "input.foo": ("input", "  foo: 1"),
    "shapes.max_length": ("shapes", "  max_length: 4.5"),
    "shapes.sequence_length[1]": ("shapes", "  sequence_length: [16, x]"),
    "shapes.overflow": ("shapes", "  overflow: [truncate]"),
    "model.trust_remote_code": ("model", "  trust_remote_code: yes"),
    "model.revision": ("model", "  revision: 3"),
    "output.shard_rows": ("output", "  shard_rows: true"),
    "output.compression": ("output", "  compression: hf_abcdefghijKLMNOPQRST0123"),
    "errors.max_rejected": ("errors", "  max_rejected: 1.0"),
    "backend.compiler_args.optlevel": ("backend", "  compiler_args: {optlevel: [1]}"),
    "options.top_k": ("options", "  top_k: 0"),
    "options.labels[0]": ("options", "  labels: [1]"),
    "options.fucntion": ("options", "  fucntion: softmax"),
}


@given(st.sets(st.sampled_from(sorted(MISTAKES))))
def test_any_set_of_mistakes_is_told_in_full_and_in_order(keys):
    sections = {"input": ["  path: a"], "output": ["  path: b"]}
    for key in sorted(keys):
        section, line = MISTAKES[key]
        sections.setdefault(section, []).append(line)
    lines = ["task: text-classification"]
    for section, body in sections.items():
        lines += [f"{section}:", *body]
    text = "\n".join(lines)
    if not keys:
        parse_spec(text, "job.yaml", options=OPTIONS)
        return
    problems = fail(text, options=OPTIONS)

    expected = {key: f"job.yaml:{lines.index(MISTAKES[key][1]) + 1}" for key in keys}
    assert {problem.key: problem.where for problem in problems} == expected
    assert len(problems) == len(keys)
    numbers = [int(problem.where.partition(":")[2]) for problem in problems]
    assert numbers == sorted(numbers)


def test_missing_keys_are_told_at_their_section():
    problems = fail("name: x\ninput:\n  split: train\n")

    assert [(p.where, p.key) for p in problems] == [
        ("job.yaml:1", "task"),
        ("job.yaml:1", "output.path"),
        ("job.yaml:2", "input.path"),
    ]
    assert all(problem.what == "is missing" for problem in problems)
    assert "fill-mask" in problems[0].hint


def test_a_misspelt_key_is_not_missing_as_well():
    (problem,) = fail(FOUR_LINES.replace("output", "ouput"))

    assert (problem.where, problem.key, problem.hint) == ("job.yaml:3", "ouput", "did you mean 'output'?")


def test_a_key_in_the_wrong_section_is_sent_to_the_right_one():
    problems = fail(FOUR_LINES + "batch_size: 8\ntop_k: 3\nqqq: 1\n", options=OPTIONS)

    assert problems[0].hint == "did you mean 'shapes.batch_size'?"
    assert problems[1].hint == "did you mean 'options.top_k'?"
    assert problems[2].hint.startswith("known keys: name, task, model")


def test_types_are_not_bent():
    hints = {
        p.key: p.hint for p in fail(FOUR_LINES + "name: 5\nshapes: {batch_size: '16', max_length: true}\n")
    }

    assert hints == {
        "name": "put the value in quotes",
        "shapes.batch_size": "leave the quotes out",
        "shapes.max_length": "",
    }
    (problem,) = fail(FOUR_LINES.replace("{text: body}", "{text: {title}}"))
    assert (problem.key, problem.hint) == ("input.columns.text", "put the value in quotes")


def test_a_task_may_check_its_options_among_themselves():
    (problem,) = fail(FOUR_LINES + "options:\n  function: sigmoid\n  top_k: null\n", options=OPTIONS)

    assert (problem.where, problem.key, problem.what) == ("job.yaml:5", "options", "sigmoid needs top_k")
