"""An AWS account on this machine: moto with a queue and a bucket, and an agent that really runs its jobs.

moto takes jobs and describes them, and runs none without Docker. The agent starts each child as a process
with the variables that Batch would set, and the command that was submitted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.faults.harness import REPOSITORY
from tests.faults.processes import LIGHT, Command
from tests.stores import s3_faults

QUEUE = "nights"
BUCKET = "acme"


@contextmanager
def serve(monkeypatch: Any) -> Iterator[str]:
    """The address of an account without Docker, which processes that are started find too."""
    with s3_faults.serve() as url:
        s3_faults.use_endpoint(monkeypatch, url)
        content = json.dumps({"batch": {"use_docker": False}}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/config", content, method="POST"))
        yield url
        urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", b"", method="POST"))


def make_queue(name: str = QUEUE) -> None:
    """A queue over inf2.xlarge, made by hand."""
    iam, ec2, batch = (boto3.client(service) for service in ("iam", "ec2", "batch"))
    role = iam.create_role(RoleName=f"{name}-role", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    profile = iam.create_instance_profile(InstanceProfileName=f"{name}-profile")["InstanceProfile"]["Arn"]
    subnet = ec2.describe_subnets()["Subnets"][0]
    groups = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [subnet["VpcId"]]}])
    environment = batch.create_compute_environment(
        computeEnvironmentName=f"{name}-instances",
        type="MANAGED",
        serviceRole=role,
        computeResources={
            "type": "SPOT",
            "minvCpus": 0,
            "maxvCpus": 32,
            "instanceTypes": ["inf2.xlarge"],
            "subnets": [subnet["SubnetId"]],
            "securityGroupIds": [groups["SecurityGroups"][0]["GroupId"]],
            "instanceRole": profile,
        },
    )
    order = [{"order": 1, "computeEnvironment": environment["computeEnvironmentArn"]}]
    batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order)


@dataclass(frozen=True)
class Agent:
    """Runs what was submitted, as ECS would."""

    folder: Path
    program: tuple[str, ...] = LIGHT

    def submit(self, *arguments: str) -> dict[str, Any]:
        """What `batchneuron submit --json` prints."""
        words = [sys.executable, *self.program, "submit", *arguments, "--json"]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(self.folder)}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def submit_and_wait(self, *arguments: str) -> Command:
        """`batchneuron submit --wait` at work."""
        words = [*self.program, "submit", *arguments, "--wait"]
        return Command(words, self.folder / "waiting.txt", count_parts, {"TMPDIR": str(self.folder)})

    def list_jobs(self) -> list[str]:
        """Ids of the jobs that were submitted, without their children; moto ends them at once."""
        found = boto3.client("batch").list_jobs(jobQueue=QUEUE, jobStatus="SUCCEEDED")
        return [job["jobId"] for job in found["jobSummaryList"] if ":" not in job["jobId"]]

    def list_children(self, job_id: str) -> list[int | None]:
        """Array indices of a job's children; of a plain job None."""
        job = boto3.client("batch").describe_jobs(jobs=[job_id])["jobs"][0]
        size = job.get("arrayProperties", {}).get("size")
        return list(range(size)) if size else [None]

    def start(self, job_id: str, child: int | None, attempt: int = 1) -> Command:
        """One child's process."""
        found = boto3.client("batch").describe_jobs(jobs=[job_id])["jobs"][0]
        variables = {"AWS_BATCH_JOB_ID": job_id, "AWS_BATCH_JOB_ATTEMPT": str(attempt)}
        if child is not None:
            variables["AWS_BATCH_JOB_ID"] = f"{job_id}:{child}"
            variables["AWS_BATCH_JOB_ARRAY_INDEX"] = str(child)
            variables["AWS_BATCH_JOB_ARRAY_SIZE"] = str(found["arrayProperties"]["size"])
        work = self.folder / f"{job_id[:8]}-{child}-{uuid.uuid4().hex[:8]}"
        work.mkdir(parents=True)
        # Of its own for each child, as on machines of their own.
        variables |= {"TMPDIR": str(work), "XDG_CACHE_HOME": str(work)}
        words = [*self.program, *found["container"]["command"]]
        return Command(words, work / "stderr.txt", count_parts, variables)

    def run(self, job_id: str) -> list[int]:
        """Exit codes of all children, started together."""
        commands = [self.start(job_id, child) for child in self.list_children(job_id)]
        return [command.wait(240) for command in commands]


def list_keys(prefix: str) -> list[str]:
    """What the bucket has below a prefix."""
    return sorted(item.key for item in boto3.resource("s3").Bucket(BUCKET).objects.filter(Prefix=prefix))


def count_parts() -> int:
    """Parts of the output `out` in the bucket."""
    return len(list_keys("out/data/"))


def read_object(key: str) -> bytes:
    """The bytes of one object."""
    content: bytes = boto3.resource("s3").Object(BUCKET, key).get()["Body"].read()
    return content


def mend_templates(monkeypatch: Any) -> None:
    """What AWS does and moto does not: its own role, AWS::NoValue in a list, a change set's outputs."""
    from moto.batch.models import ComputeEnvironment
    from moto.cloudformation import parsing
    from moto.cloudformation.models import CloudFormationBackend

    make, clean = ComputeEnvironment.create_from_cloudformation_json.__func__, parsing.clean_json
    execute = CloudFormationBackend.execute_change_set
    role = boto3.client("iam").create_role(RoleName="service-linked", AssumeRolePolicyDocument="{}")

    def make_with_role(kind: Any, name: str, template: dict[str, Any], *rest: Any, **named: Any) -> Any:
        template["Properties"].setdefault("ServiceRole", role["Role"]["Arn"])
        return make(kind, name, template, *rest, **named)

    def clean_without_gaps(value: Any, resources: Any) -> Any:
        cleaned = clean(value, resources)
        return [each for each in cleaned if each is not None] if isinstance(cleaned, list) else cleaned

    def execute_with_outputs(backend: Any, *arguments: Any, **named: Any) -> None:
        execute(backend, *arguments, **named)
        for stack in backend.stacks.values():
            stack._parse_template()
            stack.output_map = stack._create_output_map()

    monkeypatch.setattr(CloudFormationBackend, "execute_change_set", execute_with_outputs)
    monkeypatch.setattr(ComputeEnvironment, "create_from_cloudformation_json", classmethod(make_with_role))
    monkeypatch.setattr(parsing, "clean_json", clean_without_gaps)
