"""Each worker's one core, its CPUs and its environment."""

import sys
from pathlib import Path

import pytest

from batchneuron.backends.neuron_devices import NeuronCore, Wishes, discover
from batchneuron.backends.neuron_workers import make_workers, share_cpus, tool_path
from tests.backends.neuron_machines import inf2_48xlarge, make_places, trn2_48xlarge


@pytest.fixture(autouse=True)
def _no_tools(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def test_every_cpu_has_one_core_and_threads_of_a_cpu_stay_together(tmp_path):
    """24 cores, 192 CPUs: eight each, from the NUMA node of their device, siblings 96 apart."""
    places = make_places(tmp_path, instance_type="inf2.48xlarge", listed=inf2_48xlarge())
    shares = share_cpus(discover(Wishes({}), places).cores, range(192))
    assert sorted(cpu for share in shares for cpu in share) == list(range(192))
    for core, share in enumerate(shares):
        assert len(share) == 8
        assert {cpu % 96 // 48 for cpu in share} == {core // 12}
        assert {(cpu + 96) % 192 for cpu in share} == set(share)


def test_cpus_are_shared_where_there_are_fewer_than_cores():
    cores = [NeuronCore(index, 0) for index in range(4)]
    assert share_cpus(cores, (6, 7)) == [(6,), (7,), (6,), (7,)]
    assert share_cpus(cores[:2], (0, 1, 2, 3)) == [(0, 2), (1, 3)]


def test_cpus_that_the_process_may_not_use_are_left_out():
    cores = [NeuronCore(0, 0, cpus=(0, 1, 2, 3)), NeuronCore(1, 1, cpus=(4, 5))]
    assert share_cpus(cores, (2, 3, 8)) == [(2, 3), (2, 3, 8)]


def test_a_worker_sees_one_core_whatever_the_parent_sees(tmp_path):
    places = make_places(tmp_path, listed=trn2_48xlarge(1))
    environ = {"NEURON_RT_VISIBLE_CORES": "4-6", "NEURON_RT_LOG_LEVEL": "DEBUG", "PATH": "/bin"}
    environ["NEURON_RT_NUMERICAL_ERRORS_VERBOSITY"] = "critical"
    workers = make_workers(discover(Wishes(environ, logical_core_size=1), places), range(6), environ)
    assert [worker.index for worker in workers] == [4, 5, 6]
    assert [worker.cpus for worker in workers] == [(0, 3), (1, 4), (2, 5)]
    last = workers[2].environment
    assert last["NEURON_RT_VISIBLE_CORES"] == "6"
    assert last["NEURON_RT_NUM_CORES"] == "1"
    assert last["NEURON_LOGICAL_NC_CONFIG"] == "1"
    assert last["NEURON_PROCESS_TAG"] == "batchneuron-core-6"
    assert last["OMP_NUM_THREADS"] == last["RAYON_NUM_THREADS"] == "2"
    assert last["NEURON_RT_LOG_LEVEL"] == "DEBUG"
    assert last["NEURON_FAIL_ON_NAN"] == "0"
    assert last["NEURON_RT_NUMERICAL_ERRORS_VERBOSITY"] == "none"


def test_inf2_has_no_logical_cores(tmp_path):
    places = make_places(tmp_path, devices=1, instance_type="inf2.xlarge")
    workers = make_workers(discover(Wishes({}), places), range(4), {})
    assert all("NEURON_LOGICAL_NC_CONFIG" not in worker.environment for worker in workers)
    assert {worker.environment["NEURON_RT_LOG_LEVEL"] for worker in workers} == {"ERROR"}


def test_tools_are_found_beside_the_interpreter():
    own = str(Path(sys.executable).parent)
    assert tool_path({"PATH": "/bin"}) == f"{own}:/bin"
    assert tool_path({"PATH": f"/bin:{own}"}) == f"/bin:{own}"
