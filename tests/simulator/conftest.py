"""A machine per test, and a way to run Python on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulator.machine import Machine, install


@pytest.fixture
def inf2(tmp_path: Path) -> Machine:
    """Two cores, the XLA stack."""
    return install(tmp_path / "inf2", "inf2.xlarge")


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python source on a machine, with more variables."""

    def run(machine: Machine, source: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", source],
            env={**machine.environment, **variables},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
