"""Ctrl-C and SIGTERM: what the command does with the shards in hand, what it prints, how it ends."""

import os
import re
import shlex
import signal
import time

import pytest

from tests.faults.harness import read_bits, require_readable, require_whole
from tests.faults.processes import LIGHT, Job

ROWS = 10_000
JOB = (
    f"input.limit={ROWS}",
    "output.shard_rows=500",
    "input.keep=[synset]",
    "backend.workers=2",
    "shapes={batch_size: 32, sequence_length: [32, 64, 128]}",
)


@pytest.fixture
def working(tmp_path):
    """A job that has just written its first part, and its command."""
    job = Job(tmp_path / "job", JOB, LIGHT)
    command = job.start()
    command.wait_for_parts(1, timeout_s=60)
    assert command.is_alive, command.stderr
    yield job, command
    command.process.kill()


@pytest.mark.case(6)
def test_ctrl_c_finishes_the_shards_in_hand_and_prints_the_command_that_resumes(working, tmp_path):
    job, command = working

    command.process.send_signal(signal.SIGINT)

    assert command.wait() == 130
    command.require_alone()
    require_readable(job.output)
    assert list((job.output / ".batchneuron/tmp").iterdir()) == []
    assert "Traceback" not in command.stderr
    resume = re.search(r"^  batchneuron (run .*)$", command.stderr, re.MULTILINE)
    resumed = job.start(shlex.split(resume[1]))
    assert resumed.wait() == 0, resumed.stderr
    require_whole(job.output, ROWS)
    calm = Job(tmp_path / "calm", JOB, LIGHT)
    assert calm.start().wait() == 0
    assert read_bits(job.output) == read_bits(calm.output)


@pytest.mark.case(6)
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


@pytest.mark.case(5)
def test_sigterm_drains_and_asks_to_be_run_again(working):
    job, command = working

    command.process.send_signal(signal.SIGTERM)

    assert command.wait() == 75
    command.require_alone()
    require_readable(job.output)
    assert list((job.output / ".batchneuron/tmp").iterdir()) == []
    assert re.search(r"^  batchneuron run ", command.stderr, re.MULTILINE)


@pytest.mark.case(5)
def test_sigterm_gives_up_what_does_not_fit_in_the_grace(tmp_path):
    job = Job(tmp_path / "job", JOB, LIGHT)
    command = job.start([*job.arguments, "--grace", "1"])
    command.wait_for_parts(1, timeout_s=60)
    for worker in command.list_workers():
        worker.suspend()  # nothing in hand can be finished
    began = time.monotonic()

    command.process.send_signal(signal.SIGTERM)

    assert command.wait(timeout_s=20) == 75
    assert time.monotonic() - began >= 1
    command.require_alone()
    require_readable(job.output)
    assert re.search(r"^  batchneuron run .*--grace 1$", command.stderr, re.MULTILINE)
    assert "Traceback" not in command.stderr


@pytest.mark.case(6)
@pytest.mark.parametrize(
    "after_s", [0.3, *(pytest.param(after_s, marks=pytest.mark.thorough) for after_s in (0.05, 0.6, 1.0))]
)
def test_ctrl_c_of_a_terminal_reaches_workers_that_are_still_starting(after_s, tmp_path):
    """A terminal sends it to the whole group: the parent, and workers in the middle of an import."""
    command = Job(tmp_path / "job", JOB, LIGHT).start()
    while command.is_alive and not command.list_workers():
        time.sleep(0.01)
    time.sleep(after_s)

    os.killpg(command.process.pid, signal.SIGINT)

    assert command.wait() == 130
    command.require_alone()
    assert "Traceback" not in command.stderr
