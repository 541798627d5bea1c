"""The command line on simulated Inf2 and Trn2 machines: programs, cores, and what goes wrong with them."""

import subprocess
import sys

import pytest

from tests.simulated_jobs import make_tiny_job, require_equal
from tests.simulator.machine import install

pytestmark = pytest.mark.simulator
STACKS = {"neuron-trace": "inf2.xlarge", "neuron": "trn2.3xlarge"}


@pytest.fixture(scope="module")
def job(tmp_path_factory, classifier, rows_folder):
    return make_tiny_job(tmp_path_factory.mktemp("job"), classifier, rows_folder)


@pytest.fixture(scope="module")
def reference(job):
    """What the torch backend predicts, on a machine without a device."""
    ended = job.run(install(job.folder / "cpu", "none", "bare"), "reference", "backend.kind=torch")
    ended.require_whole()
    return ended.rows


def run_first(job, kind):
    """The first run of a backend, on two cores: it compiles, and holds what it made against the reference."""
    machine = install(job.folder / kind, STACKS[kind])
    ended = job.run(machine, f"first-{kind}", f"backend.kind={kind}", "backend.workers=2")
    ended.require_whole()
    return kind, machine, ended


@pytest.fixture(scope="module")
def first_trace(job):
    return run_first(job, "neuron-trace")


@pytest.fixture(scope="module")
def first_native(job):
    return run_first(job, "neuron")


@pytest.fixture(params=["first_trace", "first_native"])
def first(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def inf2(first_trace, tmp_path):
    """A machine of its own; the programs are there already."""
    return install(tmp_path / "machine", "inf2.xlarge")


def list_claims(machine):
    """Cores of each process that claimed some."""
    return [entry["cores"] for entry in machine.read_log("claim")]


def test_predictions_are_those_of_the_torch_backend(first, reference):
    _, _, ended = first

    require_equal(ended.rows, reference)
    assert "agrees with the reference" in ended.stderr


def test_each_shape_is_compiled_once_and_each_worker_has_one_core(first):
    _, machine, _ = first
    keys = [entry["key"] for entry in machine.read_log("compile")]

    assert len(keys) == len(set(keys)) == 2
    assert {core for cores in list_claims(machine) for core in cores} == {0, 1}
    assert all(len(cores) == 1 for cores in list_claims(machine))
    assert machine.read_log("refused") == []


def test_the_second_run_compiles_nothing(first, job, reference):
    kind, _, _ = first
    machine = install(job.folder / f"again-{kind}", STACKS[kind])

    ended = job.run(machine, f"again-{kind}", f"backend.kind={kind}", "backend.workers=1")

    ended.require_whole()
    require_equal(ended.rows, reference)
    assert machine.read_log("compile") == []
    assert list_claims(machine) == [[0]]


def test_the_machine_chooses_the_backend(job, inf2):
    ended = job.run(inf2, "chosen", "backend.workers=1")

    ended.require_whole()
    assert "neuron-trace float32 · 1 worker" in ended.stderr


def test_visible_cores_are_the_only_ones_used(job, inf2):
    ended = job.run(inf2, "visible", "backend.workers=4", NEURON_RT_VISIBLE_CORES="1")

    ended.require_whole()
    assert list_claims(inf2) == [[1]]
    assert "4 workers were asked for, and there is 1 core" in ended.stderr


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 5, "at": 3},
        {"kind": "kill", "at": 3},
        {"kind": "segfault", "at": 3},
        {"kind": "hang", "at": 3},
    ],
    ids=["timeout", "kill", "segfault", "hang"],
)
def test_a_core_that_fails_once_gets_a_fresh_worker(job, inf2, tmp_path, fault):
    inf2.break_core(0, **fault)

    ended = job.run(
        inf2, tmp_path.name, "backend.workers=1", NEURON_RT_VISIBLE_CORES="0", NEURON_RT_EXEC_TIMEOUT="1"
    )

    ended.require_whole()
    assert list_claims(inf2) == [[0], [0]]


def test_a_lost_core_leaves_its_shards_to_the_other(job, inf2, reference):
    inf2.break_core(0, "status", status=1202, times=None)
    inf2.break_core(1, "wait", until="core-0.fired")

    ended = job.run(inf2, "lost", "backend.workers=2")

    ended.require_whole()
    require_equal(ended.rows, reference)
    assert sorted(list_claims(inf2)) == [[0], [1]]
    assert "core 0 gets no more work" in ended.stderr


def test_when_the_last_core_is_lost_the_run_can_be_taken_up_elsewhere(job, inf2, tmp_path, reference):
    inf2.break_core(0, "status", status=1201, at=5, times=None)

    ended = job.run(inf2, "all-lost", "backend.workers=1")
    assert ended.code == 75, ended.stderr
    assert "no core is left" in ended.stderr
    assert "another instance" in ended.stderr

    again = job.run(install(tmp_path / "other", "inf2.xlarge"), "all-lost", "backend.workers=1")
    again.require_whole()
    require_equal(again.rows, reference)


def test_a_core_that_another_process_holds_is_left_to_it(job, inf2):
    source = (
        "import sys\nfrom simulated_nrt.cores import Runtime\nRuntime().initialize()\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", source],
        env={**inf2.environment, "NEURON_RT_VISIBLE_CORES": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"

    inf2.break_core(0, "wait", until="core-1.claims", number=2)
    ended = job.run(inf2, "held", "backend.workers=2")
    holder.communicate()

    ended.require_whole()
    assert sorted(list_claims(inf2)) == [[0], [1]], "the holder's and one worker's"


@pytest.mark.parametrize(
    "asked", [{}, {"NEURON_FAIL_ON_NAN": "1"}, {"NEURON_RT_NUMERICAL_ERRORS_VERBOSITY": "critical"}]
)
def test_rows_with_nan_become_errors_of_those_rows(job, inf2, tmp_path, asked):
    inf2.break_core(0, "nan", at=2, rows=[0])

    ended = job.run(inf2, tmp_path.name, "backend.workers=1", "errors.max_rejected=1", **asked)

    ended.require_whole()
    errors = [error for error in ended.rows["_error"].to_pylist() if error is not None]
    assert [error["code"] for error in errors] == ["non_finite"]
    assert ended.manifest["rejected"] == 1


def test_a_compiler_that_is_killed_ends_the_run_and_the_next_one_goes_on(job, inf2, tmp_path):
    inf2.break_compiler("kill")
    shapes = "shapes.sequence_length=[40]"

    ended = job.run(inf2, tmp_path.name, shapes, "backend.workers=1")
    assert ended.code == 78, ended.stderr
    assert "memory" in ended.stderr

    again = job.run(inf2, tmp_path.name, shapes, "backend.workers=1")
    again.require_whole()


def test_a_compiler_that_refuses_is_quoted(job, inf2, tmp_path):
    inf2.break_compiler("fail", log="[NCC_EVRF004] tensor is too strange")

    ended = job.run(inf2, tmp_path.name, "shapes.sequence_length=[32]", "backend.workers=1")

    assert ended.code == 78
    assert "tensor is too strange" in ended.stderr


def test_a_machine_without_the_compiler_runs_what_another_has_compiled(job, first_trace, tmp_path):
    _, _, first = first_trace
    machine = install(tmp_path / "machine", "inf2.xlarge")
    machine.remove_compiler()
    share = f"backend.artifacts={job.folder / 'cache/batchneuron/artifacts'}"
    own_cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    ended = job.run(machine, tmp_path.name, share, "backend.workers=2", **own_cache)
    again = job.run(machine, first.output.name, "backend.kind=neuron-trace", share, **own_cache)
    other = job.run(machine, "other", share, "shapes.sequence_length=[31]", **own_cache)

    ended.require_whole()
    require_equal(ended.rows, first.rows)
    assert "compiling again" not in ended.stderr and machine.read_log("compile") == []
    assert again.code == 0, again.stderr
    assert other.code == 78 and "compiling needs neuronx-cc" in other.stderr


def test_the_native_compiler_leaves_its_log(job, first_native, tmp_path):
    machine = install(tmp_path / "machine", "trn2.3xlarge")
    machine.break_compiler("fail", log="[NCC_EVRF004] tensor is too strange")

    ended = job.run(
        machine, tmp_path.name, "shapes.sequence_length=[32]", "backend.workers=1", TMPDIR=str(tmp_path)
    )

    assert ended.code == 78
    log = next(tmp_path.rglob("log-neuron-cc.txt"))
    assert "tensor is too strange" in log.read_text()
    assert str(log) in ended.stderr


def test_a_compiler_s_log_is_part_of_the_artifact(first, job):
    kind, *_ = first
    shown = [path.read_text() for path in (job.folder / "cache").rglob("compile.log")]

    assert any("Compilation successfully completed" in text for text in shown), kind


def test_a_shell_that_switches_the_neff_cache_off_is_overruled(job, first_native, tmp_path):
    machine = install(tmp_path / "machine", "trn2.3xlarge")
    shapes = "shapes.sequence_length=[24]"

    ended = job.run(machine, tmp_path.name, shapes, "backend.workers=1", TORCH_NEURONX_NEFF_DISABLE_CACHE="1")

    ended.require_whole()


@pytest.mark.parametrize(
    ("instance", "stack", "text"),
    [
        ("inf2.xlarge", "stub", "pip.repos.neuron.amazonaws.com"),
        ("inf2.xlarge", "bare", "pip.repos.neuron.amazonaws.com"),
        ("inf2.xlarge", "native", "torch-neuronx"),
        ("none", "trace", "there is no Neuron device"),
    ],
)
def test_a_machine_that_cannot_run_it_says_what_to_install(job, tmp_path, instance, stack, text):
    machine = install(tmp_path / "machine", instance, stack)

    ended = job.run(machine, tmp_path.name, "backend.kind=neuron-trace")

    assert ended.code == 78, ended.stderr
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr
