"""docker/aws-batch.yaml: linted, least rights, and what the page and the code say of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from batchneuron.aws import stack
from batchneuron.aws.machine import find_machine
from batchneuron.spec.sections import BackendSpec

ROOT = Path(__file__).parents[2]
TEMPLATE, PAGE = ROOT / "docker/aws-batch.yaml", ROOT / "docs/aws-batch.md"


@pytest.fixture(scope="module")
def template():
    """As plain values; what stands behind a tag such as !Ref is kept, and the tag is not."""
    yaml = YAML(typ="rt")
    return yaml.load(TEMPLATE.read_text())


@pytest.mark.thorough
def test_cfn_lint_finds_nothing():
    if shutil.which("cfn-lint") is None:
        pytest.skip("cfn-lint is not installed: pip install cfn-lint")
    found = subprocess.run(["cfn-lint", TEMPLATE], capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (0, "")


def test_the_outputs_are_those_that_submit_reads(template):
    read = {stack.QUEUE, stack.JOB_ROLE, stack.EXECUTION_ROLE, stack.LOG_GROUP}

    assert read <= set(template["Outputs"])
    assert set(template["Outputs"]) - read == {"Repository", "Artifacts"}


def test_the_instance_types_are_those_whose_chips_we_know(template):
    data = json.loads(files("batchneuron.backends").joinpath("neuron_instances.json").read_text())

    assert set(template["Parameters"]["InstanceType"]["AllowedValues"]) == set(data["instances"])


def test_a_job_may_read_and_create_and_not_delete_unless_it_is_asked_for(template):
    data, delete = template["Resources"]["JobRole"]["Properties"]["Policies"]
    statements = data["PolicyDocument"]["Statement"]
    actions = {
        action
        for each in statements
        for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])
    }

    assert actions == {"s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:GetBucketLocation"}
    assert (delete[0], delete[1]["PolicyName"]) == ("MayDelete", "delete")
    assert "s3:*" not in TEMPLATE.read_text()


def test_containers_may_open_the_devices_by_their_group(template):
    user_data = str(template["Resources"]["Launch"]["Properties"]["LaunchTemplateData"]["UserData"])

    assert "--gid 10001 neuron" in user_data and 'GROUP="neuron", MODE="0660"' in user_data


def test_the_pages_parameters_are_the_templates(template):
    named = re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE.read_text(), re.M)

    assert len(named) >= 9
    for name, default in named:
        wanted = template["Parameters"][name].get("Default", "")
        shown = default.strip("`")
        assert shown in (str(wanted), "all of it", "none", "the ECS-optimised one"), name
    for block in re.findall(r"--parameter-overrides (.*)", PAGE.read_text()):
        assert {pair.partition("=")[0] for pair in block.split()} <= set(template["Parameters"])


def test_the_pages_prices_are_the_datas():
    rows = re.findall(r"^\| (\w+\.\w+) \| (\d+) \| (\d+) \| ([\d.]+) \|$", PAGE.read_text(), re.M)

    assert len(rows) == 6
    for name, chips, workers, price in rows:
        machine = find_machine(name, None)
        assert (machine.chips, machine.count_workers(BackendSpec())) == (int(chips), int(workers))
        assert f"{machine.on_demand_usd_per_hour:.2f}" == price
    data = json.loads(files("batchneuron.backends").joinpath("neuron_instances.json").read_text())
    assert re.search(r"\d{4}-\d\d-\d\d", data["sources"]["on_demand_usd_per_hour"])[0] in PAGE.read_text()
