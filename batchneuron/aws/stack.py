"""What our CloudFormation template made: queue, roles, logs, as a stack's outputs name them."""

from __future__ import annotations

from dataclasses import dataclass

from batchneuron.aws.clients import Aws, asking
from batchneuron.errors import BackendError

# Outputs of docker/aws-batch.yaml.
QUEUE, JOB_ROLE, EXECUTION_ROLE, LOG_GROUP = "Queue", "JobRole", "ExecutionRole", "LogGroup"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an account jobs run, and as whom."""

    queue: str
    job_role: str | None = None
    execution_role: str | None = None
    log_group: str | None = None


def read_place(aws: Aws, stack: str) -> Place:
    """The place that a stack of our template made.

    Raises:
        BackendError: there is no such stack, or it is another template's.
    """
    with asking(f"stack {stack}"):
        found = aws.open_service("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())}
    if QUEUE not in outputs:
        raise BackendError(
            f"it has no output '{QUEUE}'; it is {found['StackStatus']}",
            f"stack {stack}",
            "deploy docker/aws-batch.yaml, or name the queue with --queue",
        )
    return Place(outputs[QUEUE], outputs.get(JOB_ROLE), outputs.get(EXECUTION_ROLE), outputs.get(LOG_GROUP))
