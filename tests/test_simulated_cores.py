"""Machines of many cores: one worker on each, whatever happens to some of them."""

import pytest

from tests.simulated_jobs import LIGHT, WAIT_FOR, make_light_job
from tests.simulator.machine import install

pytestmark = pytest.mark.simulator


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return make_light_job(tmp_path_factory.mktemp("light"))


def run(job, machine, output, cores, *overrides, **variables):
    """One shard of six rows for each core; the first batches wait until all cores are claimed."""
    rows = (f"input.limit={6 * cores}", "output.shard_rows=6")
    ended = job.run(machine, output, *rows, *overrides, program=LIGHT, **{WAIT_FOR: str(cores)}, **variables)
    ended.require_whole(6 * cores)
    return ended


def list_claims(machine):
    return sorted(entry["cores"] for entry in machine.read_log("claim"))


@pytest.mark.timeout(900)  # 64 processes
@pytest.mark.parametrize(
    ("instance", "cores"), [("inf2.xlarge", 2), ("inf2.48xlarge", 24), ("trn2.48xlarge", 64)]
)
def test_one_worker_per_core_of_the_machine(job, tmp_path, instance, cores):
    machine = install(tmp_path / "machine", instance)

    ended = run(job, machine, instance, cores)

    assert f"{cores} workers" in ended.stderr
    assert list_claims(machine) == [[core] for core in range(cores)]
    assert machine.read_log("refused") == []


def test_only_the_visible_cores_of_a_large_machine(job, tmp_path):
    machine = install(tmp_path / "machine", "inf2.48xlarge")

    ended = run(job, machine, "visible", 4, NEURON_RT_VISIBLE_CORES="4-7")

    assert "4 workers" in ended.stderr
    assert list_claims(machine) == [[4], [5], [6], [7]]


def test_cores_that_are_lost_busy_or_killed_do_not_stop_the_others(job, tmp_path):
    """Of six cores one is lost, one is busy twice, one stays busy, and one kills its worker."""
    machine = install(tmp_path / "machine", "inf2.24xlarge")
    machine.break_core(0, "status", status=1202, times=None)
    machine.break_core(1, "busy", times=2)
    machine.break_core(2, "busy", times=None)
    machine.break_core(3, "kill")

    # Five of the six are claimed in the end; work waits for them.
    rows = ("input.limit=180", "output.shard_rows=6")
    ended = job.run(
        machine, "mixed", *rows, program=LIGHT, **{WAIT_FOR: "5", "NEURON_RT_VISIBLE_CORES": "0-5"}
    )

    ended.require_whole(180)
    assert "core 0 gets no more work" in ended.stderr
    assert [each["cores"] for each in machine.read_log("refused")].count([1]) == 2
    assert {core for (core,) in list_claims(machine)} == {0, 1, 3, 4, 5}
    assert list_claims(machine).count([0]) == 1


def test_the_same_rows_whatever_the_cores(job, tmp_path):
    """Bit for bit, with one core and with two."""
    tables = []
    for cores, visible in ((1, "0"), (2, "0-1")):
        machine = install(tmp_path / str(cores), "inf2.xlarge")
        ended = job.run(
            machine, f"same-{cores}", "input.limit=60", "output.shard_rows=6", program=LIGHT,
            NEURON_RT_VISIBLE_CORES=visible,
        )  # fmt: skip
        ended.require_whole(60)
        tables.append(ended.rows)

    assert tables[0].equals(tables[1])
