import pytest

from batchneuron.errors import SpecError
from batchneuron.spec.parse import parse_spec

COMMIT = "6ea81172465e8b0ad3fddeed32b986cdcdcffcf0"
SPEC = "task: fill-mask\ninput: {path: a.parquet, columns: {text: body}}\noutput: {path: out}\n"


def spec(text):
    return parse_spec(SPEC + text, "job.yaml")


def problem(text, spec_text=SPEC):
    with pytest.raises(SpecError) as caught:
        parse_spec(spec_text + text, "job.yaml")
    (found,) = caught.value.problems
    return found


def test_a_hub_id_may_name_its_revision():
    model = spec("model: {id: org/name@v1.0}").model

    assert (model.id, model.revision) == ("org/name", "v1.0")
    assert spec("model: {id: org/name@v1, revision: v1}").model.revision == "v1"


@pytest.mark.parametrize(
    ("kind", "told"), [("", "auto"), ("kind: cpu, ", "cpu"), ("kind: neuron, ", "neuron")]
)
def test_a_gpu_goes_with_torch(kind, told):
    assert spec("backend: {kind: torch, device: cuda}").backend.device == "cuda"
    found = problem(f"backend: {{{kind}device: cuda}}")

    assert (found.where, found.hint) == ("job.yaml:4", "set backend.kind: torch")
    assert f"cuda goes with backend.kind: torch, and that is {told}" in found.what


def test_two_different_revisions_are_refused():
    found = problem("model:\n  id: org/name@v1\n  revision: v2")

    assert (found.where, found.key) == ("job.yaml:6", "model.revision")
    assert "'v2'" in found.what
    assert "org/name@v1" in found.what


@pytest.mark.parametrize("name", ["'@v1'", "org/name@", "org/name@a@b"])
def test_half_a_hub_id_is_refused(name):
    assert "expected org/name@revision" in problem(f"model: {{id: {name}}}").what


def test_a_folder_may_have_an_at_sign(tmp_path):
    folder = tmp_path / "model@home"
    folder.mkdir()

    assert spec(f"model: {{id: '{folder}'}}").model.id == str(folder)
    assert spec("model: {id: ./model@home}").model.id == "./model@home"


def test_code_of_others_runs_from_a_commit_or_a_folder_only(tmp_path):
    found = problem("model: {id: org/name@main, trust_remote_code: true}")

    assert found.key == "model.trust_remote_code"
    assert "40 hexadecimal digits" in found.what
    assert spec(f"model: {{id: org/name@{COMMIT}, trust_remote_code: true}}").model.trust_remote_code
    assert spec(f"model: {{id: '{tmp_path}', trust_remote_code: true}}").model.trust_remote_code
    assert problem("model: {trust_remote_code: true}").key == "model.trust_remote_code"


def test_a_ladder_is_sorted_and_has_no_length_twice():
    assert spec("shapes: {sequence_length: [64, 16, 32]}").shapes.sequence_length == [16, 32, 64]
    assert problem("shapes: {sequence_length: [64, 16, 64]}").what == "has 64 more than once"
    assert "an empty list" in problem("shapes: {sequence_length: []}").what


@pytest.mark.parametrize("lengths", ["64", "[16, 64]"])
def test_the_cap_is_no_longer_than_the_longest_shape(lengths):
    assert spec(f"shapes: {{sequence_length: {lengths}, max_length: 64}}").shapes.max_length == 64
    found = problem(f"shapes: {{sequence_length: {lengths}, max_length: 65}}")
    assert found.key == "shapes.max_length"
    assert "is 65, but the longest of shapes.sequence_length is 64" in found.what


def test_a_template_that_cannot_be_parsed_is_told_by_its_input():
    text = SPEC.replace("{text: body}", "{text: '{title} {body'}")

    assert problem("", text).key == "input.columns.text"
    assert "without its pair at character 9" in problem("", text).what


SECRETS = {
    "name: hf_abcdefghijKLMNOPQRST0123": "hf_abcdef",
    "name: hf_abcdefghijKLMNOPQRST0123 # with a remark": "hf_abcdef",
    "model: {id: AKIAABCDEFGH01234567}": "AKIAABCD",
    "model: {id: 'https://me:hunter22@host/x'}": "hunter22",
    "backend: {compiler_args: {aws_secret_access_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY}}": "wJalr",
    "hf_abcdefghijKLMNOPQRST0123: 1": "hf_abcdef",
    "options: {deep: [{deeper: 'https://h/k?X-Amz-Signature=f00f'}]}": "f00f",
    "name: |\n  -----BEGIN PRIVATE KEY-----\n  MIIEabcd\n": "MIIEabcd",
}


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_refused_and_never_shown(text):
    found = problem(text)

    assert found.what.startswith("looks like a secret")
    assert found.hint.startswith("remove it; ")
    assert SECRETS[text] not in str(found)


def test_a_secret_on_the_command_line_is_not_shown_either():
    overrides = ["model.id=hf_abcdefghijKLMNOPQRST0123", "hf_abcdefghijKLMNOPQRST0123=1", "x=[hf_" + "a" * 30]
    with pytest.raises(SpecError) as caught:
        parse_spec(SPEC, "job.yaml", overrides)

    assert len(caught.value.problems) == 3
    assert "hf_a" not in str(caught.value)


def test_characters_that_are_no_text_are_refused():
    assert problem('name: "a\\0b"').what == "holds a character that is not text"
    assert problem('name: "\\ud800"').what == "holds a character that is not text"
    assert problem('options: {"\\ud800": 1}').what == "holds a character that is not text"
