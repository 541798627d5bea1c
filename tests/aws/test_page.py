"""docs/aws-batch.md as a new user follows it: its own commands, in their order, against moto.

`docker` is left out, `aws` is the real command line, and between a submission and a look at it the agent does
what Batch would. Chips there are none, so children run PyTorch on 300 rows.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

import boto3
import click
import pytest

from batchneuron.cli import cli
from batchneuron.ledger.verify import verify_folder
from tests.aws import account
from tests.faults.harness import MODEL, REPOSITORY
from tests.faults.processes import LIGHT

PAGE = REPOSITORY / "docs/aws-batch.md"
OUT = "s3://acme-labels/labels/first"
# What the page cannot have here: Docker, Batch's agent, chips, a public parameter with an image's id.
STAND_INS = """
set -euo pipefail
docker() { [ "$1" != login ] || cat > /dev/null; }
aws() {{
  if [ "$1 $2" = "cloudformation deploy" ]; then command aws "$@" NeuronAmi=/test/ami
  elif [ "$1 $2" = "ecr get-login-password" ]; then echo secret
  else command aws "$@"; fi
}}
batchneuron() {{
  if [ "$1" != submit ]; then {python} {program} "$@"; return; fi
  {python} {program} "$@" --set backend.kind=torch --set backend.workers=1 --set input.limit=300 \\
    --set output.shard_rows=30 --set shapes.batch_size=16 --set "shapes.sequence_length=[64,128]"
  {python} -m tests.aws.agent agent
}}
"""


def read_steps() -> str:
    """All code blocks of the page from its first step on, in order, as one script."""
    text = PAGE.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text[text.index("## 1.") :], re.S | re.M)
    return "\n".join(block for language, block in blocks if not language)


@pytest.mark.parametrize("line", re.findall(r"^(?: {4})?batchneuron (.*)$", PAGE.read_text(), re.M))
def test_commands_of_the_page_exist(line):
    words = shlex.split(re.sub(r"\$\w+/8", "3/8", line), comments=True)
    with click.Context(cli) as context:
        cli.commands[words[0]].make_context(words[0], words[1:], parent=context)


def test_programs_are_compiled_in_the_image_of_the_children():
    steps = read_steps().replace("\\\n", " ")
    (line,) = re.findall(r"^docker run (.*)$", steps, re.M)
    mounts, command = line.split(" $REPOSITORY:1 ")
    words = shlex.split(command)
    with click.Context(cli) as context:
        cli.commands[words[0]].make_context(words[0], words[1:], parent=context)

    (pushed,) = re.findall(r"^docker push (\S+)$", steps, re.M)
    used = set(re.findall(r"--image (\S+)", steps))
    assert used == {pushed} == {"$REPOSITORY:1"}
    assert words[:2] == ["compile", "labels.yaml"] and words[-2:] == ["--target", "inf2"]
    passed = set(re.findall(r"--env (\w+)", mounts))
    assert passed >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}


def test_flags_of_the_page_exist():
    known = {flag for option in cli.commands["submit"].params for flag in option.opts}
    section = PAGE.read_text().partition("## 5. Submit")[2].partition("## 6.")[0]
    named = set(re.findall(r"^\| `(--[a-z-]+)", section, re.M))

    assert named <= known and len(named) >= 8


@pytest.mark.skipif(
    shutil.which("aws") is None, reason="the AWS command line is not installed: pip install awscli"
)
@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_the_page_from_the_empty_account_to_the_clean_one(tmp_path, monkeypatch):
    with account.serve(monkeypatch):
        account.mend_templates(monkeypatch)
        boto3.client("ssm").put_parameter(Name="/test/ami", Value="ami-12345678", Type="String")
        for name in ("jobs", "docker"):
            (tmp_path / name).symlink_to(REPOSITORY / name)
        (tmp_path / "labels.yaml").write_text(_read_spec())
        stand_ins = STAND_INS.replace("{{", "{").replace("}}", "}")
        stand_ins = stand_ins.replace("{python}", sys.executable).replace("{program}", LIGHT[0])

        done = subprocess.run(
            ["bash", "-c", stand_ins + read_steps()],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path), "AWS_PAGER": ""},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert "dry run" in done.stdout and "#jobs/detail/" in done.stdout
        assert "shards   10 of 10" in done.stdout and "nothing to do: 300 rows" in done.stdout
        assert verify_folder(OUT).is_whole
        stacks = boto3.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE"])
        assert stacks["StackSummaries"] == []


def _read_spec() -> str:
    spec = re.search(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    assert spec is not None
    return re.sub(r"model: \{id: .*\}", f"model: {{id: '{MODEL}'}}", spec[1])
