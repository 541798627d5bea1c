"""The hub busy, broken or away, and a model that has moved on since the run was begun."""

import pytest

from tests.faults import fake_hub
from tests.faults.harness import MODEL, read_bits, require_whole
from tests.faults.processes import LIGHT, Job

pytestmark = [pytest.mark.faults, pytest.mark.case(47)]

NAME = "someone/glosses"
ROWS = 100
JOB = (f"input.limit={ROWS}", f"model.id={NAME}", "backend.workers=0", "shapes.sequence_length=[64, 128]")


@pytest.fixture
def hub():
    with fake_hub.serve(NAME, MODEL) as hub:
        yield hub


@pytest.fixture
def make_job(hub, tmp_path):
    def make(name):
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        return Job(tmp_path / name, JOB, LIGHT, environment)

    return make


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_does_not_answer_is_told_with_what_to_do(make_job, hub, status):
    hub.status = status

    command = make_job("job").start()

    assert command.wait(240) == 78, command.stderr
    assert "the hub cannot be reached and the model is not in the local cache" in command.stderr
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
