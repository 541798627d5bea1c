"""docs/neuron.md and docs/docker.md: every command of ours exists, and runs on the stand-in for the SDK."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from batchneuron.backends.neuron_chips import find_instance, list_families
from batchneuron.backends.neuron_stack import INSTALL
from batchneuron.cli import cli
from tests.simulator.machine import install

ROOT = Path(__file__).parent.parent
NEURON, DOCKER = ROOT / "docs/neuron.md", ROOT / "docs/docker.md"


def read_commands(page: Path) -> list[list[str]]:
    """The words of each line of the page's code blocks, continued lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def own_commands(page: Path) -> list[list[str]]:
    """Words after `batchneuron`, or after the name of one of its images."""
    found = []
    for words in read_commands(page):
        starts = [
            n for n, word in enumerate(words) if word == "batchneuron" or word.startswith("batchneuron:")
        ]
        if starts and words[-1] != "." and words[starts[-1] + 1 :]:
            found.append(words[starts[-1] + 1 :])
    return found


OWN = [*own_commands(NEURON), *own_commands(DOCKER)]


@pytest.mark.parametrize("words", OWN, ids=" ".join)
def test_commands_of_the_pages_exist(words):
    command = cli.commands[words[0]]
    with click.Context(cli) as context:
        command.make_context(words[0], words[1:], parent=context)


def test_there_are_commands_to_check():
    named = {words[0] for words in OWN}
    assert {"devices", "doctor", "init", "validate", "plan", "compile", "run", "status", "report"} <= named


def test_what_is_to_be_installed_is_what_the_doctor_says():
    page = NEURON.read_text()
    for command in INSTALL.values():
        assert command in page


def test_the_table_of_costs_is_that_of_the_data():
    rows = re.findall(r"^\| (\w+\.\w+) \|(.*)\|$", NEURON.read_text(), re.M)
    assert len(rows) == 10
    for name, cells in rows:
        instance = find_instance(name)
        family = list_families()[instance.family]
        cores = instance.chips * family.physical_cores_per_chip // family.logical_core_sizes[0]
        numbers = [instance.chips, cores, instance.chips * family.device_bytes_per_chip >> 30]
        numbers.append(instance.vcpus)
        memory = "?" if instance.host_bytes is None else f"{instance.host_bytes >> 30:,}"
        prices = (instance.on_demand_usd_per_hour, instance.reserved_usd_per_hour)
        shown = [*(f"{number:,}" for number in numbers), memory]
        shown += [f"{price:.2f}" if price else "" for price in prices]
        assert [cell.strip() for cell in cells.split("|")] == shown, name


@pytest.mark.e2e
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("instance_type", ["inf2.xlarge", "trn2.3xlarge"])
def test_the_page_runs_from_the_first_command_to_the_last(tmp_path, instance_type):
    """Its own commands, in their order, on a simulated machine; jobs are cut to 40 rows and one worker."""
    machine = install(tmp_path / "machine", instance_type)
    environment = {**machine.environment, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    work = tmp_path / "work"
    (work / "jobs").mkdir(parents=True)
    shutil.copytree(ROOT / "jobs/quickstart", work / "jobs/quickstart")
    shutil.copy(ROOT / "jobs/quickstart.yaml", work / "jobs")
    environment["PYTHONPATH"] = os.pathsep.join([environment["PYTHONPATH"], str(ROOT)])
    for words in own_commands(NEURON):
        if "--target" in words:  # the page compiles for another machine's chip; here it is this one's
            place = words.index("--target")
            words = [*words[:place], *words[place + 2 :]]
        if words[0] in {"plan", "run", "compile", "doctor"} and len(words) > 1:
            words = [*words, "--set", "input.limit=40", "--set", "backend.workers=1"]
            words = [word for word in words if word not in {"--limit", "500"}]
        done = subprocess.run(
            [sys.executable, "-m", "batchneuron", *words],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"batchneuron {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    assert "40 of 40" in subprocess.run(
        [sys.executable, "-m", "batchneuron", "status", "out/labels"],
        cwd=work, env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
