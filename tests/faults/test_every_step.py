"""A run that dies, stops or fails at each of its steps, one after the other: see `steps.py`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.harness import REPOSITORY
from tests.faults.invariants import PLANTED
from tests.stores import s3_faults

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

STRIDE = 9
"""Of the loops that take a second or more for each step; 1 takes every one of them."""
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run_loop(program, *arguments, **environment):
    """Lines that a loop of this folder prints, one for each fault."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), *map(str, arguments)],
        env={**os.environ, **SINGLE, **PLANTED, "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(secret in done.stdout + done.stderr for secret in PLANTED.values())
    return done.stdout.splitlines()


@pytest.fixture
def bucket_environment(tmp_path):
    with s3_faults.serve() as url:
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "TMPDIR": str(tmp_path),
        }


def names_of(lines):
    """Names of the steps, the last line left out: there the run got through."""
    assert lines[-1].endswith("through: 0")
    return [re.match(r"\d+: (\w+): ", line)[1] for line in lines[:-1]]


@pytest.mark.case(1)
def test_a_death_at_any_step_leaves_nothing_torn_and_the_next_run_completes(tmp_path, injected):
    names = names_of(run_loop("steps.py", tmp_path, "kill", "local"))

    injected(len(names))
    assert len(names) > 150
    assert set(names) == {
        *("open", "plan", "write", "hash", "fsync", "link", "unlink", "mkdir", "replace"),
        *("ack", "lease", "progress", "manifest"),
    }


@pytest.mark.case(1)
def test_a_death_around_any_request_to_s3_leaves_nothing_torn(tmp_path, injected, bucket_environment):
    names = names_of(run_loop("steps.py", tmp_path, "kill", "s3", STRIDE, **bucket_environment))

    injected(len(names))
    assert {"GET", "PUT"} <= set(names)


@pytest.mark.case(25, 27)
def test_a_runner_that_stands_still_at_any_step_hinders_and_spoils_nothing(tmp_path, injected):
    names = names_of(run_loop("steps.py", tmp_path, "stop", "local", STRIDE))

    injected(len(names))
    assert {"open", "write"} <= set(names)


@pytest.mark.case(16, 27)
def test_a_runner_that_stands_still_around_any_request_to_s3_does_no_harm(
    tmp_path, injected, bucket_environment
):
    names = names_of(run_loop("steps.py", tmp_path, "stop", "s3", STRIDE, **bucket_environment))

    injected(len(names))
    assert {"GET", "PUT"} <= set(names)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param("ENOSPC", marks=pytest.mark.case(8)),
        pytest.param("EIO", marks=pytest.mark.case(9)),
        pytest.param("EACCES", marks=pytest.mark.case(10)),
    ],
)
def test_an_error_of_the_disk_at_any_step_is_told_and_the_next_run_completes(error, tmp_path, injected):
    names = names_of(run_loop("steps.py", tmp_path, error, "local"))

    injected(len(names))
    assert set(names) == {"write", "fsync", "link", "unlink", "mkdir", "replace"}
