import json
import pickle
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from batchneuron.errors import SpecError
from batchneuron.spec.parse import json_schema, load_spec, parse_spec
from batchneuron.spec.sections import JobSpec, Section

FOUR_LINES = """\
task: text-classification
input: {path: reviews.parquet, columns: {text: body}}
output:
  path: out
"""


class LabelOptions(Section):
    """Options of a task, for these tests."""

    top_k: int | None = Field(1, ge=1)
    labels: list[str] = Field(default_factory=list)


OPTIONS = {"text-classification": LabelOptions}


def fail(text, overrides=(), options=None):
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "job.yaml", overrides, options)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems
    return caught.value.problems


def test_four_lines_are_a_job(tmp_path):
    path = tmp_path / "nightly.yaml"
    path.write_text(FOUR_LINES)
    spec = load_spec(path)

    assert spec.name == "nightly"
    assert spec.input.columns == {"text": "body"}
    assert spec == JobSpec.model_validate(
        {
            "name": "nightly",
            "task": "text-classification",
            "input": {"path": "reviews.parquet", "columns": {"text": "body"}},
            "output": {"path": "out"},
        }
    )
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_null_means_the_default():
    text = FOUR_LINES + "model:\nshapes: null\nbackend: {workers: null}\noptions: ~\n"

    assert parse_spec(text, "job.yaml") == parse_spec(FOUR_LINES, "job.yaml")
    problems = fail("task:\ninput:\noutput:\n  path:\n")
    assert [(p.where, p.key) for p in problems] == [
        ("job.yaml:1", "task"),
        ("job.yaml:2", "input.path"),
        ("job.yaml:4", "output.path"),
    ]


def test_options_are_stored_as_they_were_written():
    text = FOUR_LINES + "options: {top_k: null, labels: [a]}\n"

    assert parse_spec(text, "job.yaml", options=OPTIONS).options == {"top_k": None, "labels": ["a"]}
    assert parse_spec(FOUR_LINES + "options: {any: 1}\n", "job.yaml").options == {"any": 1}
    (problem,) = fail(FOUR_LINES + "options: 3\n")
    assert problem.what == "expected a mapping; got 3"


yaml_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just("${env:A")),
    lambda values: st.one_of(
        st.lists(values, max_size=3), st.dictionaries(st.text(max_size=9), values, max_size=3)
    ),
    max_leaves=5,
)


@given(st.text("ab:-*&!#%@{}[]'\"|>?, \n\t1.e", max_size=40))
@example("? {a: b}\n: c")
@example("a: !!binary x")
@example("&a *a")
def test_any_text_is_a_job_or_a_spec_error(text):
    fail(text)


@given(
    st.sampled_from(["name", "task", "model", "options", "input.columns", "shapes.sequence_length"]),
    yaml_values,
)
def test_any_value_anywhere_is_a_job_or_a_spec_error(key, value):
    try:
        parse_spec(FOUR_LINES, "job.yaml", [f"{key}={json.dumps(value)}"], OPTIONS)
    except SpecError as error:
        assert all(problem.what for problem in error.problems)
        str(error).encode()


def test_overrides_win_in_their_order():
    overrides = ["model.id=org/x@main", "shapes.sequence_length=[32,16]", "output.path=a", "output.path=b=c"]
    spec = parse_spec(FOUR_LINES, "job.yaml", overrides)

    assert (spec.model.id, spec.model.revision) == ("org/x", "main")
    assert spec.shapes.sequence_length == [16, 32]
    assert spec.output.path == "b=c"


def test_mistakes_of_overrides_are_told_by_the_flag():
    problems = fail(
        FOUR_LINES + "zzz: 1\n",
        ["nonsense", "shapes.batch_sise=8", "task.x=1", "input.limit=x", "input.keep=[a", ".a=1"],
    )
    told = {problem.where: (problem.key, problem.hint) for problem in problems}

    assert next(iter(told)) == "job.yaml:5"
    assert told["--set nonsense"][0] == ""
    assert told["--set shapes.batch_sise=8"] == ("shapes.batch_sise", "did you mean 'batch_size'?")
    assert told["--set task.x=1"][0] == "task.x"
    assert told["--set input.limit=x"][0] == "input.limit"
    assert told["--set input.keep=[a"][0] == "input.keep"
    assert len(problems) == 7


def test_variables_of_the_environment_stand_in_texts_only(monkeypatch):
    monkeypatch.setenv("BUCKET", "labels")
    monkeypatch.setenv("SIZE", "16")
    monkeypatch.delenv("NOWHERE", raising=False)
    text = FOUR_LINES.replace("out\n", "s3://${env:BUCKET}/${env:SIZE}\n")

    assert parse_spec(text, "job.yaml").output.path == "s3://labels/16"
    problems = fail(
        FOUR_LINES.replace("out\n", "${env:NOWHERE}\n")
        + "name: '${env:'\nshapes:\n  batch_size: ${env:SIZE}\nbackend: {kind: '${env:BUCKET}'}\n"
    )
    assert [(p.where, p.key) for p in problems] == [
        ("job.yaml:4", "output.path"),
        ("job.yaml:5", "name"),
        ("job.yaml:7", "shapes.batch_size"),
        ("job.yaml:8", "backend.kind"),
    ]
    assert problems[0].what == "the environment variable NOWHERE is not set"
    assert "--set shapes.batch_size=" in problems[2].hint
    assert "labels" not in problems[3].what


def test_a_secret_from_the_environment_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("TOKEN", "hf_abcdefghijKLMNOPQRST0123")
    (problem,) = fail(FOUR_LINES + "name: ${env:TOKEN}\n")

    assert problem.what == "looks like a secret (a Hugging Face token)"


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "nightly.yaml").write_text(FOUR_LINES)
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "nigthly.yaml")
    (problem,) = caught.value.problems

    assert caught.value.exit_code == 2
    assert problem.where == str(tmp_path / "nigthly.yaml")
    assert problem.hint == "did you mean 'nightly.yaml'?"
    with pytest.raises(SpecError, match="there is no folder"):
        load_spec(tmp_path / "no" / "x.yaml")
    with pytest.raises(SpecError, match=r"specs in that folder: nightly\.yaml"):
        load_spec(tmp_path / "x")


def test_a_file_that_is_no_text_says_so(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_bytes(b"task: x\nname: caf\xe9\n")
    with pytest.raises(SpecError, match=r"job.yaml:2: is not UTF-8 text: byte 0xe9"):
        load_spec(path)
    path.write_bytes(b"\xef\xbb\xbf" + FOUR_LINES.encode())
    assert load_spec(path).name == "job"
    path.write_bytes(b"a: " + "é".encode() * (1 << 20))
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        load_spec(path)
    with pytest.raises(SpecError, match="cannot be read: is a directory"):
        load_spec(tmp_path)


def test_mistakes_before_a_syntax_error_are_told_with_it():
    problems = fail("a: 1\na: 2\nb: [\n")

    assert [problem.where for problem in problems] == ["job.yaml:2", "job.yaml:4"]


def test_the_schema_refines_options_by_task():
    schema = json_schema(OPTIONS)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["task", "input", "output"]
    assert schema["properties"]["model"]["anyOf"][1] == {"type": "null"}
    (branch,) = schema["allOf"]
    assert branch["if"]["properties"]["task"] == {"const": "text-classification"}
    assert branch["then"]["properties"]["options"]["anyOf"][0] == {"$ref": "#/$defs/LabelOptions"}
    assert "top_k" in schema["$defs"]["LabelOptions"]["properties"]
    assert schema["$defs"]["InputSpec"]["properties"]["split"]["description"]
    assert json_schema()["allOf"] == []


def test_parsing_needs_no_heavy_library():
    code = (
        "import sys, batchneuron.spec.parse; print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
