"""A process killed at each step that touches the disk, one after the other: see `steps.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.harness import REPOSITORY

pytestmark = pytest.mark.faults


def test_a_death_at_any_step_leaves_nothing_torn_and_the_next_run_completes(tmp_path):
    program = Path(__file__).with_name("steps.py")
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env={**os.environ, **single, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    steps = done.stdout.splitlines()
    assert len(steps) > 40
    assert steps[-1].endswith("None; then None")
