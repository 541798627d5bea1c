"""Cores belong to one process until it ends; what a process sees is in its environment."""

import json
import subprocess
import sys

import pytest

from tests.simulator.machine import install

CLAIM = (
    "import sys\n"
    "from simulated_nrt.cores import Runtime\n"
    "runtime = Runtime()\n"
    "runtime.initialize()\n"
    "print(list(runtime.cores), flush=True)\n"
    "sys.stdin.read()\n"
)


class Holder:
    """A process that has claimed cores, and keeps them until the test ends."""

    def __init__(self, machine, **variables):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLAIM],
            env={**machine.environment, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.cores = self.process.stdout.readline().strip()

    def end(self):
        self.process.kill()
        return self.process.communicate()[1]


@pytest.fixture
def hold():
    holders = []

    def start(machine, **variables):
        holders.append(Holder(machine, **variables))
        return holders[-1]

    yield start
    for each in holders:
        each.end()


def test_unset_variables_claim_every_core(inf2, hold):
    assert hold(inf2).cores == "[0, 1]"


@pytest.mark.parametrize(("text", "cores"), [("1", "[1]"), ("0-1", "[0, 1]"), ("1,0", "[1, 0]")])
def test_visible_cores_are_claimed(inf2, hold, text, cores):
    assert hold(inf2, NEURON_RT_VISIBLE_CORES=text, NEURON_RT_NUM_CORES="1").cores == cores


def test_a_number_of_cores_is_a_block_of_free_ones(inf2, hold):
    assert hold(inf2, NEURON_RT_NUM_CORES="1").cores == "[0]"
    assert hold(inf2, NEURON_RT_NUM_CORES="1").cores == "[1]"


def test_a_core_is_refused_to_a_second_process_until_the_first_has_ended(inf2, hold):
    first = hold(inf2, NEURON_RT_VISIBLE_CORES="1")

    told = hold(inf2, NEURON_RT_VISIBLE_CORES="1").end()
    assert "NeuronCore(s) not available - Requested:nc1-nc1 Available:0" in told
    assert "RuntimeError: Neuron runtime cannot be initialized; cannot determine the number" in told
    assert hold(inf2, NEURON_RT_VISIBLE_CORES="0").cores == "[0]"

    first.end()
    assert hold(inf2, NEURON_RT_VISIBLE_CORES="1").cores == "[1]"


def test_one_held_core_stops_a_process_that_wants_all(inf2, hold):
    hold(inf2, NEURON_RT_VISIBLE_CORES="0")

    assert "Requested:nc0-nc1 Available:1" in hold(inf2).end()


@pytest.mark.parametrize("text", ["2", "0-5", "one", "-1"])
def test_cores_that_are_not_there_are_refused(inf2, hold, text):
    assert "Neuron runtime cannot be initialized" in hold(inf2, NEURON_RT_VISIBLE_CORES=text).end()


def test_a_busy_core_is_free_after_as_many_claims_as_it_is_told(inf2, hold):
    inf2.break_core(0, "busy", times=1)

    assert hold(inf2, NEURON_RT_VISIBLE_CORES="0").cores == ""
    assert hold(inf2, NEURON_RT_VISIBLE_CORES="0").cores == "[0]"


@pytest.mark.parametrize(("variables", "cores"), [({}, 4), ({"NEURON_LOGICAL_NC_CONFIG": "1"}, 8)])
def test_logical_cores_of_trn2(tmp_path, hold, variables, cores):
    machine = install(tmp_path / "m", "trn2.3xlarge")

    assert json.loads(hold(machine, **variables).cores) == list(range(cores))


def test_no_device_no_runtime(tmp_path, hold):
    told = hold(install(tmp_path / "m", "none", "trace")).end()

    assert "Unable to determine Neuron Driver version" in told


def list_devices(machine, **variables):
    environment = {**machine.environment, **variables}
    return json.loads(
        subprocess.check_output([machine.folder / "bin/neuron-ls", "--json-output"], env=environment)
    )


def test_neuron_ls_lists_devices_cores_and_who_holds_them(inf2, hold):
    holder = hold(inf2, NEURON_RT_VISIBLE_CORES="1")

    (device,) = list_devices(inf2)

    assert (device["nc_count"], device["neuroncore_ids"], device["instance_type"]) == (
        2,
        [0, 1],
        "inf2.xlarge",
    )
    assert [each["pid"] for each in device["neuron_processes"]] == [holder.process.pid]
    assert "logical_neuroncore_config" not in device


@pytest.mark.parametrize(("instance", "cores"), [("inf2.48xlarge", 24), ("trn2.48xlarge", 64)])
def test_neuron_ls_of_the_large_machines(tmp_path, instance, cores):
    machine = install(tmp_path / "m", instance)

    assert sum(device["nc_count"] for device in list_devices(machine)) == cores


def test_neuron_ls_fails_without_a_device(tmp_path):
    machine = install(tmp_path / "m", "none")
    done = subprocess.run(
        [machine.folder / "bin/neuron-ls", "-j"], env=machine.environment, capture_output=True
    )

    assert done.returncode == 1
