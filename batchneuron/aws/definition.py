"""The request that registers a job definition: one job has one whole instance.

Batch counts CPUs and memory, and knows nothing of Neuron chips: only a job that takes all of an instance can
be sure of its devices, which are mapped one by one (AWS Batch API: LinuxParameters, Device).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchneuron.aws.machine import Machine
from batchneuron.errors import Incomplete

_USER = "10001:10001"  # of our images
_TMP_MIB = 1024
_OPEN_FILES = 65535  # the SDK's advice for "Too Many Open Files"
RETRIES: tuple[Mapping[str, str], ...] = (
    {"onStatusReason": "Host EC2*", "action": "RETRY"},
    {"onExitCode": str(Incomplete.exit_code), "action": "RETRY"},
    {"onExitCode": "137", "action": "RETRY"},
    {"onReason": "Cannot*", "action": "RETRY"},
    {"onReason": "*", "action": "EXIT"},
)
"""A spot instance that is taken away, a runner that says "run me again", one that was killed, a container
that was not pulled, made or started (ECS: "Stopped tasks error codes"); nothing else. What matches no rule
Batch would repeat, so the last one matches all."""


@dataclass(frozen=True, slots=True)
class Container:
    """What runs a child, as the user chose it."""

    image: str
    machine: Machine
    job_role: str | None = None
    """ARN of the role that reads the input and writes the output; None: the instance's."""
    execution_role: str | None = None
    """ARN of the role that ECS fetches secrets and writes logs with."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Variable to ARN, in Secrets Manager or the Parameter Store; never a value."""
    log_group: str | None = None
    """None: Batch's own, /aws/batch/job."""
    timeout_s: int = 86_400
    """Of one attempt; Batch then stops it, and does not start it again."""
    attempts: int = 5


def make_definition(container: Container, region: str) -> dict[str, Any]:
    """The request of RegisterJobDefinition; its name has a digest of what it says: it is made once."""
    request: dict[str, Any] = {
        "type": "container",
        "platformCapabilities": ["EC2"],
        "containerProperties": _make_properties(container, region),
        "retryStrategy": {
            "attempts": container.attempts,
            "evaluateOnExit": [dict(rule) for rule in RETRIES],
        },
        "timeout": {"attemptDurationSeconds": container.timeout_s},
        "propagateTags": True,
        "tags": {"batchneuron": "job-definition"},
    }
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:8]
    machine = re.sub(r"[^A-Za-z0-9_-]", "-", container.machine.name)
    return {"jobDefinitionName": f"batchneuron-{machine}-{digest}", **request}


def _make_properties(container: Container, region: str) -> dict[str, Any]:
    machine = container.machine
    properties: dict[str, Any] = {
        "image": container.image,
        "command": ["--help"],
        "user": _USER,
        "readonlyRootFilesystem": True,
        # boto3 reads this one, and not AWS_REGION.
        "environment": [
            {"name": "AWS_DEFAULT_REGION", "value": region},
            {"name": "TINI_SUBREAPER", "value": "1"},
        ],
        "secrets": [{"name": name, "valueFrom": arn} for name, arn in container.secrets.items()],
        "resourceRequirements": [
            {"type": "VCPU", "value": str(machine.vcpus)},
            {"type": "MEMORY", "value": str(machine.job_memory_mib)},
        ],
        "ulimits": [{"name": "nofile", "softLimit": _OPEN_FILES, "hardLimit": _OPEN_FILES}],
        "linuxParameters": {
            "initProcessEnabled": True,
            "devices": [_make_device(number) for number in range(machine.chips)],
            # /scratch is the image's volume, on the instance's disk: programs and parts do not fit memory.
            "tmpfs": [_make_tmpfs("/tmp"), _make_tmpfs("/var/tmp")],
        },
        "logConfiguration": _make_log(container, region),
    }
    if container.job_role is not None:
        properties["jobRoleArn"] = container.job_role
    if container.execution_role is not None:
        properties["executionRoleArn"] = container.execution_role
    return properties


def _make_device(number: int) -> dict[str, Any]:
    path = f"/dev/neuron{number}"
    return {"hostPath": path, "containerPath": path, "permissions": ["READ", "WRITE"]}


def _make_tmpfs(path: str) -> dict[str, Any]:
    return {"containerPath": path, "size": _TMP_MIB, "mountOptions": ["rw", "noexec", "nosuid", "nodev"]}


def _make_log(container: Container, region: str) -> dict[str, Any]:
    if container.log_group is None:
        return {"logDriver": "awslogs"}
    options = {
        "awslogs-group": container.log_group,
        "awslogs-region": region,
        "awslogs-stream-prefix": "batchneuron",
    }
    return {"logDriver": "awslogs", "options": options}
