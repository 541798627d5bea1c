"""Which backend a machine gets, why it may have none, and what the two backends say of themselves."""

import os
import pickle
from dataclasses import replace
from unittest import mock

import pytest

from batchneuron.backends import choose_kind, open_backend
from batchneuron.backends.neuron_host import NeuronHost
from batchneuron.backends.neuron_native import NativeBackend
from batchneuron.backends.neuron_trace import TraceBackend
from batchneuron.errors import BackendError
from batchneuron.model import resolve_model
from batchneuron.spec.sections import BackendSpec, InputSpec, JobSpec, ModelSpec, OutputSpec
from batchneuron.user_cache import user_cache
from tests.backends.neuron_machines import GIB, inf2_48xlarge, make_places, set_listed, trn2_48xlarge

TRACE = {"torch-neuronx": "2.9.0.2.15.32035", "neuronx-cc": "2.28.7631.0", "torch": "2.9.1"}
NATIVE = {"torch-neuronx": "2.14.3.0.21584", "neuronx-cc": "2.28.7631.0", "torch": "2.14.0"}


@pytest.fixture(autouse=True)
def _no_tools(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "sdk" / "bin"))
    for name in [name for name in os.environ if name.startswith(("NEURON_", "TORCH_NEURONX_"))]:
        monkeypatch.delenv(name)


def job(**backend):
    return JobSpec(
        task="text-classification",
        input=InputSpec(path="-"),
        output=OutputSpec(path="-"),
        backend=BackendSpec(**backend),
    )


def trace(places, **backend):
    return TraceBackend(NeuronHost("neuron-trace", BackendSpec(**backend), places, TRACE.get), ModelSpec())


def native(places, **backend):
    return NativeBackend(NeuronHost("neuron", BackendSpec(**backend), places, NATIVE.get))


@pytest.mark.parametrize(
    ("instance_type", "kind"),
    [
        ("inf2.xlarge", "neuron-trace"),
        ("trn1.2xlarge", "neuron-trace"),
        ("trn2.3xlarge", "neuron"),
        ("m7i.large", "cpu"),
    ],
)
def test_auto_follows_the_machine(tmp_path, instance_type, kind):
    assert choose_kind(job(), make_places(tmp_path, instance_type=instance_type)) == kind


def test_auto_follows_the_target_before_the_machine(tmp_path):
    places = make_places(tmp_path, instance_type="m7i.large")
    assert choose_kind(job(target="trn3"), places) == "neuron"
    assert choose_kind(job(target="trn1n"), places) == "neuron-trace"
    assert choose_kind(job(target="trn1n", kind="cpu"), places) == "cpu"


def test_devices_of_an_unknown_kind_stop_auto(tmp_path):
    with pytest.raises(BackendError, match=r"nothing tells of what kind\n.*backend.kind: cpu"):
        choose_kind(job(), make_places(tmp_path, devices=1))


def test_a_neuron_machine_without_its_stack_does_not_fall_back_to_its_cpus(tmp_path):
    places = make_places(tmp_path)
    listed = [{**device, "instance_type": "inf2.48xlarge"} for device in inf2_48xlarge()]
    set_listed(places, str(listed).replace("'", '"'))
    with pytest.raises(BackendError) as caught:
        open_backend(job())
    assert 'pip install "torch-neuronx==2.9.0.2.15.32035"' in caught.value.hint
    assert caught.value.hint.endswith("or say backend.kind: cpu, which leaves the chips idle")


def test_an_explicit_kind_needs_a_device_or_a_target(tmp_path):
    with pytest.raises(BackendError, match=r"backend.target: there is no Neuron device here"):
        open_backend(job(kind="neuron"))
    with pytest.raises(BackendError, match=r"'neuron' on trn2 needs the native stack"):
        open_backend(job(kind="neuron", target="trn2"))


def test_a_host_without_devices_compiles_and_lists_no_cores(tmp_path):
    backend = trace(make_places(tmp_path), target="inf2")
    assert backend.facts.target == "inf2"
    with pytest.raises(
        BackendError, match=r"there is no Neuron device on this machine\n.*batchneuron compile"
    ):
        backend.list_cores()


def test_an_instance_without_its_driver_is_told_so(tmp_path):
    backend = trace(make_places(tmp_path, instance_type="inf2.8xlarge"))
    with pytest.raises(
        BackendError, match=r"this is inf2.8xlarge, but it shows no Neuron device\n.*--device"
    ):
        backend.list_cores()


def test_programs_run_on_their_own_architecture_alone(tmp_path):
    inf2 = make_places(tmp_path / "inf2", devices=1, instance_type="inf2.xlarge")
    trn2 = make_places(tmp_path / "trn2", devices=1, instance_type="trn2.3xlarge")
    assert len(trace(inf2, target="trn1").list_cores()) == 2
    with pytest.raises(BackendError, match=r"programs for inf2 do not run on trn2"):
        trace(trn2, target="inf2").list_cores()


def test_facts_of_the_trace_backend(tmp_path):
    facts = trace(make_places(tmp_path, devices=1, instance_type="inf2.xlarge")).facts
    assert (facts.kind, facts.target, facts.precision) == ("neuron-trace", "inf2", "bfloat16")
    assert facts.compiler_args == {"optlevel": "2", "auto_cast": "matmult", "auto_cast_type": "bf16"}
    assert dict(facts.versions) == TRACE
    assert (facts.batch_slots, facts.compiles_per_shape, facts.is_reference) == (8 * 128, True, False)
    assert facts.cost.memory_bytes == 16 * GIB


def test_without_a_compiler_the_version_of_what_was_compiled_elsewhere_stands(tmp_path):
    places = make_places(tmp_path, devices=1, instance_type="inf2.xlarge")
    here = {name: number for name, number in TRACE.items() if name != "neuronx-cc"}
    host = replace(trace(places).host, version_of=here.get)
    backend = replace(trace(places), host=host)
    adopted = replace(backend, host=replace(host, compiler_version="2.27.1.0"))

    assert (dict(backend.facts.versions), backend.facts.missing_compiler) == (here, "neuronx-cc")
    assert dict(adopted.facts.versions) == {**here, "neuronx-cc": "2.27.1.0"}
    assert trace(places).facts.missing_compiler is None
    placeholder = replace(host, version_of={**here, "neuronx-cc": "1.0.post1"}.get)
    assert dict(placeholder.versions) == here, "what the public index has is no compiler"
    nothing = replace(host, version_of={}.get)
    assert replace(backend, host=nothing).facts.missing_compiler is None, "planned for another machine"


def test_facts_of_the_native_backend(tmp_path):
    facts = native(make_places(tmp_path, listed=trn2_48xlarge(1)), precision="float32").facts
    assert (facts.kind, facts.target, facts.precision) == ("neuron", "trn2", "float32")
    assert facts.compiler_args == {"optlevel": "2", "logical_core_size": 1}
    assert facts.cost.memory_bytes is None


def test_the_logical_core_size_is_part_of_what_is_compiled_and_of_where_it_runs(tmp_path):
    """Compiler, worker and artifact's key have it from one place, so they cannot disagree."""
    backend = native(make_places(tmp_path, listed=trn2_48xlarge(2)), logical_core_size=1)
    needs = backend.compile_needs(resolve_model(ModelSpec(id="jobs/quickstart/model"), ""))
    worker = backend.list_cores()[-1]
    assert worker.index == 127
    assert backend.facts.compiler_args["logical_core_size"] == 1
    assert (
        needs.environment["NEURON_LOGICAL_NC_CONFIG"] == worker.environment["NEURON_LOGICAL_NC_CONFIG"] == "1"
    )


def test_compiling_and_running_agree_on_all_that_is_in_a_neffs_key(tmp_path):
    backend = native(make_places(tmp_path, listed=trn2_48xlarge(2)))
    compiling = backend.compile_needs(resolve_model(ModelSpec(id="jobs/quickstart/model"), "")).environment
    workers = backend.list_cores()
    for name in ("NEURON_CC_FLAGS", "NEURON_COMPILER_OPT_LEVEL", "NEURON_PLATFORM_TARGET_OVERRIDE"):
        assert compiling[name] == workers[0].environment[name]
    assert compiling["TORCH_NEURONX_COMPILE_ONLY"] == "1"
    assert "TORCH_NEURONX_COMPILE_ONLY" not in workers[0].environment
    caches = {worker.environment["TORCH_NEURONX_NEFF_CACHE_DIR"] for worker in workers}
    assert len(caches) == 64


def test_a_process_that_becomes_a_worker_has_its_core_and_its_cache_whatever_a_user_has_set(tmp_path):
    backend = native(make_places(tmp_path, listed=trn2_48xlarge(2)))
    worker = backend.list_cores()[2].environment
    theirs = {
        "NEURON_RT_VISIBLE_CORES": "2-3",
        "TORCH_NEURONX_NEFF_CACHE_DIR": str(tmp_path / "theirs"),
        "NEURON_CC_FLAGS": "--optlevel 3",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        "OMP_NUM_THREADS": "3",
    }

    with mock.patch.dict(os.environ, theirs):
        for name in ("first", "again"):
            backend = native(make_places(tmp_path / name, listed=trn2_48xlarge(2)))
            backend.host.adopt_worker(backend._worker_environment())
        made = dict(os.environ)

    assert made["OMP_NUM_THREADS"] == "3"
    users_own = {"OMP_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"}  # or of a test before
    named = worker.keys() - users_own
    assert {name: made[name] for name in named} == {name: worker[name] for name in named}
    assert made["TORCH_NEURONX_NEFF_CACHE_DIR"] == str(user_cache() / "neff/core-2/cache")


@pytest.mark.parametrize("make", [trace, native])
def test_a_backend_goes_to_the_process_that_compiles(tmp_path, make):
    backend = make(make_places(tmp_path), target="trn2")
    copy = pickle.loads(pickle.dumps(backend))
    assert copy.facts == backend.facts
