"""The simulated native stack: a device of its own, a program per signature, errors that wait."""

import json
from pathlib import Path

import pytest

from tests.simulator.callers import ask
from tests.simulator.machine import install

pytestmark = pytest.mark.simulator
CALLERS = Path(__file__).with_name("native_callers.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="module")
def trn2(folder):
    return install(folder / "trn2", "trn2.3xlarge")


@pytest.fixture(scope="module")
def answers(trn2, folder):
    return ask(trn2, CALLERS, TORCH_NEURONX_NEFF_CACHE_DIR=str(folder / "neffs"))


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("lazy", "False"),
        ("device", "('neuron:0', True, 4)"),
        ("eager", "(True, True)"),
        ("compiled", "(True, True)"),
        ("another_shape", "True"),
        ("copied_by_itself", "True"),
        ("id_too_large_before_synchronize", "True"),
        ("synchronize_again", "None"),
    ],
)
def test_a_right_caller_is_served(answers, name, answer):
    assert answers[name] == answer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("outputs_stay", "Error"),
        ("weights_not_moved", "RuntimeError"),
        ("not_copied_by_itself", "RuntimeError: Input tensor at index"),
        ("dynamic", "requires all tensor dimensions to be statically sized"),
        ("id_too_large_at_synchronize", "status 1006 (NRT_EXEC_OOB)"),
        ("blocking", "status 1006 (NRT_EXEC_OOB)"),
        ("mode", "has no effect"),
        ("set_device", "ValueError: Invalid device id: 7"),
        ("fork", "Cannot re-initialize Neuron runtime in forked subprocess."),
    ],
)
def test_a_wrong_caller_is_told(answers, name, text):
    assert text in answers[name]


COMPILE = (
    "import json, torch\n"
    "torch.set_grad_enabled(False)\n"
    "model = torch.nn.Linear(3, 2).eval().to('neuron')\n"
    "made = torch.compile(model, backend='neuron', fullgraph=True)(torch.ones(4, 3).to('neuron'))\n"
    "torch.neuron.synchronize()\n"
    "print(json.dumps([made.cpu().isnan().any(1).tolist(), torch.neuron.is_initialized()]))\n"
)
FINE = [False] * 4


def test_a_signature_is_compiled_once_and_found_by_the_next_process(tmp_path, python):
    machine, cache = install(tmp_path / "m", "trn2.3xlarge"), tmp_path / "neffs"

    for _ in range(2):
        done = python(machine, COMPILE, TORCH_NEURONX_NEFF_CACHE_DIR=str(cache))
        assert json.loads(done.stdout) == [FINE, True]

    compiled, found = machine.read_log("compile"), machine.read_log("neff-found")
    assert (len(compiled), len(found), len(list(cache.iterdir()))) == (1, 1, 1)
    assert compiled[0]["key"] == found[0]["key"]
    assert "--target=trn2" in compiled[0]["flags"]

    python(machine, COMPILE, TORCH_NEURONX_NEFF_CACHE_DIR=str(cache), NEURON_CC_FLAGS="--optlevel 3")
    assert len(machine.read_log("compile")) == 2, "flags are part of the key"


def test_without_a_device_it_compiles_for_a_named_chip_and_runs_nothing(tmp_path, python):
    machine, cache = install(tmp_path / "m", "none", "native"), tmp_path / "neffs"
    variables = {"TORCH_NEURONX_NEFF_CACHE_DIR": str(cache), "TORCH_NEURONX_COMPILE_ONLY": "1"}

    refused = python(machine, COMPILE, **variables)
    done = python(machine, COMPILE, **variables, NEURON_PLATFORM_TARGET_OVERRIDE="trn2")

    assert "needs NEURON_PLATFORM_TARGET_OVERRIDE" in refused.stderr
    assert json.loads(done.stdout) == [FINE, False], done.stderr
    assert (len(machine.read_log("compile")), machine.read_log("call")) == (1, [])


def test_a_device_of_the_second_generation_is_refused(tmp_path, python):
    machine = install(tmp_path / "m", "inf2.xlarge", "native")

    assert "Trn2 and Trn3 only" in python(machine, COMPILE).stderr


@pytest.mark.parametrize("fault", [{"kind": "nan", "rows": [2]}, {"kind": "status", "status": 1202}])
def test_a_core_fails_at_the_call_it_is_told_to(tmp_path, python, fault):
    machine = install(tmp_path / "m", "trn2.3xlarge")
    machine.break_core(0, **fault)

    done = python(machine, COMPILE, TORCH_NEURONX_NEFF_CACHE_DIR=str(tmp_path / "neffs"))

    if fault["kind"] == "nan":
        assert json.loads(done.stdout)[0] == [False, False, True, False]
    else:
        assert "status 1202 (NRT_HW_ERR_NC_UE)" in done.stderr
        assert "synchronize" in done.stderr


@pytest.mark.parametrize(("fallback", "code"), [("0", 0), ("1", 1), (None, 1)])
def test_an_operator_that_does_not_compile(tmp_path, python, fallback, code):
    machine = install(tmp_path / "m", "trn2.3xlarge")
    machine.break_operators("linear")
    named = {} if fallback is None else {"TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION": fallback}
    source = COMPILE + "import torch_neuronx\nassert torch_neuronx.get_fallback_ops() != []\n"

    done = python(machine, source, TORCH_NEURONX_NEFF_CACHE_DIR=str(tmp_path / "neffs"), **named)

    assert done.returncode == code, done.stderr
    assert "linear" in done.stderr


def test_autoload_can_be_switched_off(tmp_path, python):
    machine = install(tmp_path / "m", "trn2.3xlarge")
    source = "import sys, torch; print('torch_neuronx' in sys.modules, hasattr(torch, 'neuron'))"

    assert python(machine, source).stdout.split() == ["True", "True"]
    assert python(machine, source, TORCH_DEVICE_BACKEND_AUTOLOAD="0").stdout.split() == ["False", "False"]
