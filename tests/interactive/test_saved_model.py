"""Which model, held to which arithmetic: Neuron machines, saved folders, and repositories of the hub."""

import json
import os
import subprocess
import sys

import pytest

from batchneuron.interactive import saved_model
from batchneuron.interactive.modeling import NeuronModelForSequenceClassification
from batchneuron.interactive.saved_model import Wish, make_spec, resolve_export
from batchneuron.spec.sections import ModelSpec
from tests.faults import fake_hub
from tests.programs.test_optimum_folder import SECTION
from tests.simulator.machine import install
from tests.tiny import save_tokenizer

NAME = "someone/compiled"


def run(script, environment, *arguments):
    """What a Python process on that machine prints, and what it complains of."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize(
    ("kind", "dtype", "chosen"),
    [
        ("cpu", "float32", ("torch", "auto")),
        ("cpu", "bfloat16", ("torch", "auto")),
        ("neuron-trace", "float32", ("auto", "float32")),
        ("neuron-trace", "bfloat16", ("auto", "float32")),
        ("neuron", "float32", ("auto", "float32")),
        ("neuron", "float16", ("auto", "float32")),
        ("neuron", "bfloat16", ("auto", "bfloat16")),
    ],
)
def test_no_precision_is_chosen_that_would_need_a_parity_gate(kind, dtype, chosen, monkeypatch):
    monkeypatch.setattr(saved_model, "choose_kind", lambda spec: kind)

    made = make_spec("text-classification", ModelSpec(dtype=dtype), {}).backend

    assert (made.kind, made.precision) == chosen


FACTS = """
import json, sys
from batchneuron.backends import open_backend
from batchneuron.interactive.saved_model import Wish, resolve_export
for asked in json.loads(sys.argv[2]):
    facts = open_backend(resolve_export("text-classification", Wish(name=sys.argv[1], **asked)).spec).facts
    print(facts.precision, facts.compiler_args.get("auto_cast"), facts.compiler_args.get("auto_cast_type"))
"""


@pytest.mark.parametrize(
    ("instance", "asked", "facts"),
    [
        (
            "inf2.xlarge",
            [{}, {"dtype": "bfloat16"}, {"compiler_args": {"auto_cast": "matmul", "auto_cast_type": "bf16"}}],
            ["float32 none None", "float32 none None", "float32 matmult bf16"],
        ),
        ("trn2.3xlarge", [{}, {"dtype": "bfloat16"}], ["float32 None None", "bfloat16 None None"]),
    ],
)
def test_a_neuron_machine_computes_in_float32_until_it_is_asked(instance, asked, facts, classifier, tmp_path):
    """`none` is what optimum-neuron passes to the compiler unless it is asked."""
    folder = tmp_path / "saved"
    folder.mkdir()
    for path in classifier.iterdir():
        (folder / path.name).symlink_to(path)
    config = json.loads((classifier / "config.json").read_text())
    (folder / "config.json").unlink()
    # As it is saved on an Inf2.
    config["neuron"] = {"model_digest": "0", "auto_cast": "none", "float_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    machine = install(tmp_path / "machine", instance)

    for model in (classifier, folder):
        done = run(FACTS, machine.environment, model, json.dumps(asked))

        assert done.stdout.splitlines() == facts, done.stderr


OPEN = """
import sys
from batchneuron.interactive.saved_model import Wish, resolve_export
from batchneuron.programs.optimum_folder import find_program
export = resolve_export("text-classification", Wish(name=sys.argv[1], token=sys.argv[2] or None))
print(export.model.id, export.shape, find_program(export.model).read_bytes().decode())
"""


@pytest.fixture
def hub(classifier, tmp_path):
    """One with a repository that optimum-neuron wrote: no weights."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    save_tokenizer(folder)
    config = json.loads((classifier / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "neuron": SECTION}))
    (folder / "model.neuron").write_bytes(b"one")
    with fake_hub.serve(NAME, folder) as hub:
        yield hub


def with_hub(hub, environment, home):
    known = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    return {**environment, **known, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.mark.parametrize("token", ["", "hf_x"])
def test_a_compiled_repository_is_opened_by_its_id(token, hub, tmp_path):
    machine = install(tmp_path / "machine", "inf2.xlarge")

    done = run(OPEN, with_hub(hub, machine.environment, tmp_path / "home"), NAME, token)

    assert done.stdout == f"{NAME} 2x16 one\n", done.stderr


def test_a_compiled_repository_is_not_downloaded_where_it_cannot_be_loaded(hub, tmp_path):
    done = run(OPEN, with_hub(hub, dict(os.environ), tmp_path / "home"), NAME, "")

    assert "which needs the backend neuron-trace" in done.stderr
    assert "config.json" in " ".join(hub.asked)
    assert "model.neuron" not in " ".join(hub.asked)


def test_weights_are_hashed_for_a_saved_folder_alone(classifier, tmp_path, monkeypatch):
    hashed = []
    known = saved_model._digest_source
    monkeypatch.setattr(saved_model, "_digest_source", lambda folder: hashed.append(folder) or known(folder))
    model = NeuronModelForSequenceClassification.from_pretrained(classifier)
    assert hashed == []
    model.save_pretrained(tmp_path)
    hashed.clear()

    assert resolve_export("text-classification", Wish(name=str(tmp_path))).model.digest == (
        model.export.model.digest
    )
    assert hashed == [tmp_path]
