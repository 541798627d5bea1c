"""What `importlib.metadata` and `import` find on a simulated machine, and the command that makes one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator.machine import install

VERSIONS = (
    "import importlib.metadata as metadata, json\n"
    "names = 'torch-neuronx', 'neuronx-cc', 'torch'\n"
    "print(json.dumps([metadata.version(name) for name in names]))\n"
)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("stack", "versions"),
    [
        ("trace", ["2.9.0.2.15.32035", "2.28.7631.0", "2.9.1"]),
        ("native", ["2.14.3.0.21584", "2.28.7631.0", "2.14.0"]),
    ],
)
def test_a_stack_is_seen_by_its_metadata(tmp_path, python, stack, versions):
    done = python(install(tmp_path / "m", "none", stack), VERSIONS)

    assert json.loads(done.stdout) == versions


@pytest.mark.parametrize("name", ["torch_neuronx", "neuronx_cc"])
def test_the_public_indexs_packages_refuse_to_be_imported(tmp_path, python, name):
    machine = install(tmp_path / "m", "inf2.xlarge", "stub")

    assert "WRONG PACKAGE" in python(machine, f"import {name}").stderr


def test_nothing_is_installed_on_a_bare_machine(tmp_path, python):
    machine = install(tmp_path / "m", "inf2.xlarge", "bare")

    assert "No module named 'torch_neuronx'" in python(machine, "import torch_neuronx").stderr


def test_the_xla_stack_needs_its_commands_on_the_path(inf2, python):
    done = python(inf2, "import torch_neuronx", PATH="/usr/bin:/bin")

    assert "FileNotFoundError" in done.stderr
    assert "libneuronpjrt-path" in done.stderr


def test_a_command_runs_on_a_machine_made_for_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator", "inf2.24xlarge", "--", "neuron-ls", "-j"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert sum(device["nc_count"] for device in json.loads(done.stdout)) == 12
    assert "simulated inf2.24xlarge" in done.stderr
