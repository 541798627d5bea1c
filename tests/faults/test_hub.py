"""The hub busy, broken or away, a model that has moved on since the run was begun, and one with code."""

import json
import shutil

import pytest

from batchneuron.model import digest_files
from tests.faults import fake_hub
from tests.faults.harness import MODEL, read_bits, read_rows, require_whole
from tests.faults.processes import LIGHT, REAL, Job

pytestmark = [pytest.mark.faults, pytest.mark.case(47)]

NAME = "someone/glosses"
ROWS = 100
JOB = (f"input.limit={ROWS}", f"model.id={NAME}", "backend.workers=0", "shapes.sequence_length=[64, 128]")


# Its second label is as likely as the plain model's first.
CODE = """
from transformers import BertForSequenceClassification


class Own(BertForSequenceClassification):
    def forward(self, *given, **named):
        made = super().forward(*given, **named)
        made.logits = made.logits.roll(1, -1)
        return made
"""


@pytest.fixture
def hub():
    with fake_hub.serve(NAME, MODEL) as hub:
        yield hub


@pytest.fixture
def make_job(hub, tmp_path):
    def make(name):
        return Job(tmp_path / name, JOB, LIGHT, reach(hub, tmp_path))

    return make


def reach(hub, folder):
    """Variables of a process that knows no other hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_does_not_answer_is_told_with_what_to_do(make_job, hub, status):
    hub.status = status

    command = make_job("job").start()

    assert command.wait(240) == 75, command.stderr
    assert "the hub cannot be reached and the model is not in the local cache" in command.stderr
    assert str(status) in command.stderr
    assert f"hf download {NAME}" in command.stderr
    assert "Traceback" not in command.stderr


def test_what_is_in_the_cache_is_used_while_the_hub_is_away(make_job, hub):
    first, second = make_job("first"), make_job("second")
    command = first.start()
    assert command.wait() == 0, command.stderr
    hub.status = 503

    command = second.start()

    assert command.wait(240) == 0, command.stderr
    require_whole(second.output, ROWS)
    assert read_bits(second.output) == read_bits(first.output)


def test_a_model_that_has_moved_on_is_refused_by_name(make_job, hub):
    job = make_job("job")
    assert job.start().wait() == 0
    before = read_bits(job.output)
    hub.commit = "b" * 40
    weights = hub.files["model.safetensors"]
    hub.files["model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])

    command = job.start()

    assert command.wait() == 73, command.stderr
    assert "model" in command.stderr.partition("another run")[2]
    assert "--overwrite" in command.stderr
    assert read_bits(job.output) == before


def test_code_that_is_trusted_comes_with_the_model_and_is_run(classifier, rows_folder, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(CODE)
    # Nothing but the classifier's code tells the two runs apart.
    common = (f"input={{path: '{rows_folder}', columns: {{text: text}}}}", "backend.workers=0")
    with fake_hub.serve(NAME, folder) as hub:
        model = f"model={{id: {NAME}, revision: {hub.commit}, trust_remote_code: true}}"
        job = Job(tmp_path / "trusted", (*common, model), REAL, reach(hub, tmp_path))
        command = job.start([*job.arguments, "--trust-remote-code"])
        assert command.wait(120) == 0, command.stderr
        assert [path for path in hub.asked if path.endswith("modeling_own.py")]
    plain = Job(tmp_path / "plain", (*common, f"model.id='{classifier}'"), REAL)
    assert plain.start().wait(120) == 0

    made, before = read_rows(job.output), read_rows(plain.output)
    following = {"bad": "fair", "fair": "good", "good": "bad"}
    assert made["label"].to_pylist() == [following[label] for label in before["label"].to_pylist()]
    record = (job.output / ".batchneuron/run.json").read_text()
    assert digest_files(folder, with_code=True) in record
