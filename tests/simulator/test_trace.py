"""The simulated XLA stack refuses what the documents say the real one refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator.callers import ask
from tests.simulator.machine import install

pytestmark = pytest.mark.simulator
INTERPRETER = "RuntimeError: The following operation failed in the TorchScript interpreter"


@pytest.fixture(scope="module")
def inf2(tmp_path_factory):
    return install(tmp_path_factory.mktemp("trace") / "inf2", "inf2.xlarge")


@pytest.fixture(scope="module")
def answers(inf2):
    return ask(inf2, Path(__file__).with_name("trace_callers.py"))


@pytest.mark.parametrize("name", ["right", "loaded", "bfloat16_is_another_number"])
def test_a_right_caller_gets_the_models_numbers(answers, name):
    assert answers[name] == "True"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("one_row", "status 2 (NRT_INVALID)"),
        ("int32", "status 1002 (NRT_EXEC_BAD_INPUT)"),
        ("id_too_large", "status 1006 (NRT_EXEC_OOB)"),
        ("id_negative", "status 1006 (NRT_EXEC_OOB)"),
    ],
)
def test_wrong_inputs_end_inside_the_interpreter(answers, name, text):
    assert answers[name].startswith(INTERPRETER)
    assert text in answers[name]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("one_input", "RuntimeError: forward() is missing value for argument"),
        ("by_name", "RuntimeError: forward() is missing value for argument"),
        ("training_mode", "RuntimeError: the module is in training mode"),
        ("positional", "NotImplementedError"),
        ("inputs_by_name", "ValueError: example_inputs"),
        ("unknown_keyword", "TypeError"),
        ("no_target_without_device", "RuntimeError: cpu_backend=True requires --target"),
        ("unknown_flag", "[NCC_EARG001] unrecognized argument: --fast"),
        ("unknown_value", "[NCC_EARG001] argument --auto-cast: invalid value 'matmul'"),
        ("logical_cores_on_trn1", "[NCC_EARG001] --logical-nc-config is not supported on trn1"),
        ("output_that_torchscript_cannot_say", "RuntimeError"),
        ("loaded_without_the_import", "Unknown builtin op: neuron::load"),
        ("loaded_on_another_architecture", "status 10 (NRT_UNSUPPORTED_NEFF_VERSION)"),
        ("compiled_without_device_and_called", "Neuron runtime cannot be initialized"),
    ],
)
def test_a_wrong_caller_is_refused(answers, name, text):
    assert text in answers[name]


def test_inputs_that_are_no_indices_are_not_held_to_the_vocabulary(answers):
    assert answers["mask_may_be_anything"] == "torch.Size([2, 3])"


def test_every_documented_flag_is_taken(answers):
    assert answers["all_flags"] == "torch.Size([2, 3])"


def test_the_compilers_log_is_in_its_folder(answers):
    assert "completed" in answers["log_is_kept"]


def test_a_fork_has_no_runtime(answers):
    assert answers["in_a_fork"] == "13"


def test_the_cores_are_chosen_by_the_environment_at_import(answers, inf2):
    """The callers set NEURON_RT_VISIBLE_CORES after the import: it does nothing, and all cores are taken."""
    assert [entry["cores"] for entry in inf2.read_log("claim")] == [[0, 1]]
    assert {entry["core"] for entry in inf2.read_log("load")} == {0, 1}, "programs are spread over them"


def test_a_compilation_is_counted_once(answers, inf2):
    keys = [entry["key"] for entry in inf2.read_log("compile")]

    assert len(keys) == len(set(keys)) == 4, "the program, its twin for Trn2, all flags, bfloat16"


def save_program(python, machine, path, **variables):
    source = (
        "import sys, torch, torch_neuronx\n"
        "model = torch.nn.Linear(3, 2).eval()\n"
        "program = torch_neuronx.trace(model, torch.ones(4, 3))\n"
        f"torch.jit.save(program, {str(path)!r})\n"
    )
    return python(machine, source, **variables)


CALLS = (
    "import json, math, sys, torch, torch_neuronx\n"
    "program, answers = torch.jit.load(sys.argv[1]), []\n"
    "for _ in range(3):\n"
    "    try: answers.append(program(torch.ones(4, 3)).isnan().any(1).tolist())\n"
    "    except RuntimeError as error: answers.append(str(error))\n"
    "print(json.dumps(answers))\n"
)


@pytest.fixture(scope="module")
def program(inf2, tmp_path_factory):
    """A program of one input, float32 [4, 3], for a Neuron core of the second generation."""
    path = tmp_path_factory.mktemp("program") / "program.pt"
    source = (
        "import sys, torch, torch_neuronx\n"
        "program = torch_neuronx.trace(torch.nn.Linear(3, 2).eval(), torch.ones(4, 3),\n"
        "    compiler_args='--target inf2', cpu_backend=True)\n"
        "torch.jit.save(program, sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", source, str(path)], env=inf2.environment, check=True)
    return path


def call_three_times(machine, program, **variables):
    """What three calls on core 0 gave: which rows are NaN, or the error's text; or how the process died."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS, str(program)],
        env={**machine.environment, "NEURON_RT_VISIBLE_CORES": "0", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.returncode


FINE = [False] * 4


def test_a_core_fails_at_the_call_it_is_told_to(program, tmp_path):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_core(0, "status", status=1202, at=2)

    first, second, third = call_three_times(machine, program)

    assert (first, third) == (FINE, FINE)
    assert "status 1202 (NRT_HW_ERR_NC_UE)" in second


def test_nan_passes_silently(program, tmp_path):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_core(0, "nan", at=2, rows=[1, 3], times=None)

    assert call_three_times(machine, program) == [FINE, *[[False, True, False, True]] * 2]


@pytest.mark.parametrize(
    "asked", [{"NEURON_FAIL_ON_NAN": "1"}, {"NEURON_RT_NUMERICAL_ERRORS_VERBOSITY": "critical"}]
)
def test_nan_is_told_where_a_variable_asks_for_it(program, tmp_path, asked):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_core(0, "nan", at=3)

    assert "status 1003" in call_three_times(machine, program, **asked)[2]


def test_a_hanging_call_times_out(program, tmp_path):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_core(0, "hang", at=1)

    assert "status 5 (NRT_TIMEOUT)" in call_three_times(machine, program, NEURON_RT_EXEC_TIMEOUT="0.1")[0]


@pytest.mark.parametrize(("kind", "code"), [("kill", -9), ("segfault", -11)])
def test_a_core_can_take_its_process_with_it(program, tmp_path, kind, code):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_core(0, kind, at=2)

    assert call_three_times(machine, program) == code
    assert len(machine.read_log("call")) == 1


def test_a_core_can_refuse_a_program(program, tmp_path):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_core(0, "load", status=4, times=None)

    assert call_three_times(machine, program) == 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"kind": "fail", "log": "[NCC_EVRF004] no such thing"}, "[NCC_EVRF004] no such thing"),
        ({"kind": "kill"}, "[F137] neuronx-cc was forcibly killed"),
        ({"kind": "segfault"}, "neuronx-cc failed with -11"),
    ],
)
def test_the_compiler_fails_as_it_is_told_to(inf2, python, tmp_path, how, told):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_compiler(**how)

    done = save_program(python, machine, tmp_path / "program.pt")

    assert (done.returncode, told in done.stderr) == (1, True), done.stderr
    assert machine.read_log("compile") == []


def test_the_process_that_compiles_can_be_killed(python, tmp_path):
    machine = install(tmp_path / "m", "inf2.xlarge")
    machine.break_compiler("kill", victim="caller")

    assert save_program(python, machine, tmp_path / "program.pt").returncode == -9


def test_without_a_device_trace_needs_the_cpu_backend(python, tmp_path):
    machine = install(tmp_path / "m", "none")

    assert "Neuron runtime cannot be initialized" in save_program(python, machine, tmp_path / "p.pt").stderr
