"""The whole command killed at random moments, and taken up again until it is done.

Parent and workers get SIGKILL while they import, load, predict, commit and finish. Whatever happens:
nothing torn is ever visible, nobody survives the parent, and the rows of the end are those of a run
that nobody disturbed.
"""

import random
import re
import shlex
import signal
import time
from collections import Counter

import psutil
import pytest

from batchneuron.run import run_job
from tests.faults.harness import quickstart_spec, read_bits, require_readable, require_whole
from tests.faults.processes import Command, Job

SEED = 20261122
KILLS = 24
ROWS, SHARD_ROWS = 5_000, 50
JOB = (
    f"input.limit={ROWS}",
    f"output.shard_rows={SHARD_ROWS}",
    "input.keep=[synset]",
    "backend.workers=2",
    "shapes={batch_size: 32, sequence_length: [16, 32, 64, 128]}",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed")
    run_job(quickstart_spec(output, *JOB, "backend.workers=0"))
    return read_bits(output)


def kill_at_random(command: Command, random_: random.Random, kills: Counter[str]) -> None:
    """Kill workers, and at last perhaps the parent, until the command has ended or had enough."""
    while kills.total() < KILLS and command.is_alive:
        moment = random_.choice(["any", "commit", "commit"])
        if moment == "commit":
            command.wait_for_parts(random_.randint(1, 12), timeout_s=20)
        time.sleep(random_.uniform(0, 3 if moment == "any" else 0.1))
        workers = command.list_workers()
        if random_.random() < 0.35:
            victim, name = psutil.Process(command.process.pid), "parent"
        elif workers:
            victim, name = random_.choice(workers), "worker"
        else:
            continue
        if command.is_alive:
            victim.kill()
            kills[f"{name}, {'working' if command.count_parts() else 'starting'}"] += 1
        if name == "parent":
            command.wait()
            command.require_alone()
    command.wait()


def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(undisturbed, tmp_path):
    random_, kills, codes = random.Random(SEED), Counter(), Counter()
    jobs = 0
    while kills.total() < KILLS:
        jobs += 1
        job = Job(tmp_path / f"job-{jobs}", JOB)
        code = None
        while code != 0:
            command = job.start()
            kill_at_random(command, random_, kills)
            code = command.wait()
            codes[code] += 1
            story = f"seed {SEED}, {dict(kills)}, exit codes {dict(codes)}\n{command.stderr}"
            assert code in (0, 75, -signal.SIGKILL), story
            command.require_alone()
            if (job.output / "data").exists():
                require_readable(job.output)
        assert job.start().wait() == 0  # nothing is left to do, but to sweep what the dead left
        require_whole(job.output, ROWS)
        assert read_bits(job.output) == undisturbed, story
    print(f"{jobs} jobs, {dict(kills)}, exit codes {dict(codes)}")  # noqa: T201  # shown with pytest -s


@pytest.fixture
def working(tmp_path):
    """A job of larger shards that has just written its first part, and its command."""
    job = Job(tmp_path / "job", (*JOB, "output.shard_rows=500"))
    command = job.start()
    command.wait_for_parts(1, timeout_s=60)
    assert command.is_alive, command.stderr
    yield job, command
    command.process.kill()


def test_ctrl_c_finishes_the_shards_in_hand_and_prints_the_command_that_resumes(working, undisturbed):
    job, command = working

    command.process.send_signal(signal.SIGINT)

    assert command.wait() == 130
    command.require_alone()
    require_readable(job.output)
    assert list((job.output / ".batchneuron/tmp").iterdir()) == []
    assert "Traceback" not in command.stderr
    resume = re.search(r"^  batchneuron (run .*)$", command.stderr, re.MULTILINE)
    resumed = Command(shlex.split(resume[1]), job.folder / "resumed.txt", job.output / "data")
    assert resumed.wait() == 0, resumed.stderr
    require_whole(job.output, ROWS)
    assert read_bits(job.output) == undisturbed


def test_ctrl_c_twice_ends_it_at_once(working):
    job, command = working
    for worker in command.list_workers():
        worker.suspend()  # nothing in hand can be finished

    command.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert command.is_alive
    command.process.send_signal(signal.SIGINT)

    assert command.wait(timeout_s=10) == 130
    command.require_alone()
    require_readable(job.output)
    assert "Traceback" not in command.stderr


def test_sigterm_drains_and_asks_to_be_run_again(working):
    job, command = working

    command.process.send_signal(signal.SIGTERM)

    assert command.wait() == 75
    command.require_alone()
    require_readable(job.output)
    assert "batchneuron run" in command.stderr


@pytest.mark.parametrize("after_s", [1.5, 3.0])
def test_ctrl_c_of_a_terminal_while_workers_start(after_s, tmp_path):
    """A terminal sends it to the whole group: parent, and workers in the middle of an import."""
    command = Job(tmp_path / "job", JOB).start()
    while command.is_alive and not command.list_workers():
        time.sleep(0.02)
    time.sleep(after_s - 1.5)

    for process in [*command.list_processes(), psutil.Process(command.process.pid)]:
        process.send_signal(signal.SIGINT)

    assert command.wait() == 130
    command.require_alone()
    assert "Traceback" not in command.stderr
