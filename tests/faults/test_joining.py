"""Five commands at one run folder, one of them frozen longer than its lease lives, and woken up again."""

import json
import os
import signal
import time

import pytest

from batchneuron.ledger.verify import verify_folder
from tests.faults.harness import read_bits, require_whole
from tests.faults.processes import LIGHT, Job
from tests.faults.test_two_runners import JOB, ROWS

SHARDS = 60
pytestmark = pytest.mark.faults


def send(command, number):
    """To the whole session, as a frozen machine stands still as a whole."""
    os.killpg(command.process.pid, number)


def start_all(folder, count):
    """Jobs that have one run folder, and their commands, which end with a summary in `summary.json`."""
    out = f"output.path='{folder / 'out'}'"
    jobs = [Job(folder / str(number), (*JOB, out, "backend.workers=1"), LIGHT) for number in range(count)]
    commands = []
    for job in jobs:
        arguments = [*job.arguments, "--json"]
        with (job.folder / "summary.json").open("w") as stdout:
            commands.append(job.start(arguments, stdout=stdout))
    return jobs, commands


def require_told(jobs, shards):
    """What was done twice is in the runners' summaries, and all of them together did every shard."""
    told = [json.loads((job.folder / "summary.json").read_text()) for job in jobs]
    begun = sum(len(job.begun.read_text().split()) for job in jobs if job.begun.exists())
    twice = sum(summary["done_twice"] for summary in told)
    assert sum(len(summary["done_now"]) for summary in told) == shards + twice
    assert begun >= shards + twice
    return twice


def wait_for_lease(folder, command):
    """Until the command holds a shard."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and command.is_alive:
        leases = [path.read_text() for path in folder.glob(".batchneuron/leases/*.json")]
        if any(f'"pid": {command.process.pid}' in text and '"shards": []' not in text for text in leases):
            return
        time.sleep(0.02)
    raise AssertionError(f"no lease of {command.process.pid}: {command.stderr}")


@pytest.mark.case(25, 27)
def test_a_runner_that_was_frozen_holds_nobody_up_and_spoils_nothing_when_it_wakes(tmp_path):
    jobs, commands = start_all(tmp_path, 5)
    frozen = commands[2]
    wait_for_lease(tmp_path / "out", frozen)
    send(frozen, signal.SIGSTOP)

    codes = [command.wait(240) for command in commands if command is not frozen]
    assert frozen.is_alive
    send(frozen, signal.SIGCONT)

    assert [*codes, frozen.wait(240)] == [0] * 5, [command.stderr for command in commands]
    for command in commands:
        command.require_alone()
    require_whole(tmp_path / "out", ROWS)
    assert require_told(jobs, SHARDS) >= 1, "the frozen one had a shard in hand, which another did"
    assert verify_folder(str(tmp_path / "out")).is_whole
    calm = Job(tmp_path / "calm", (*JOB, "backend.workers=0"), LIGHT)
    assert calm.start().wait() == 0
    assert read_bits(tmp_path / "out") == read_bits(calm.output)


@pytest.mark.case(28)
def test_a_runner_whose_run_is_overwritten_ends_and_the_new_run_is_whole(tmp_path):
    job = Job(tmp_path / "job", (*JOB, "backend.workers=1"), LIGHT)
    old = job.start()
    old.wait_for_parts(2, 60)
    send(old, signal.SIGSTOP)  # else it may be done before the new one has begun
    new = Job(tmp_path / "new", (*JOB, f"output.path='{job.output}'", "options.top_k=2"), LIGHT)

    command = new.start([*new.arguments, "--overwrite"])

    assert command.wait(240) == 0, command.stderr
    send(old, signal.SIGCONT)
    assert old.wait(240) == 73, old.stderr
    assert "overwritten" in old.stderr
    assert verify_folder(str(job.output)).is_whole
