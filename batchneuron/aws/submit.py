"""Submit: a job to AWS Batch. Settled first, then a job definition where one is asked for, then the array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from batchneuron.aws.array import make_submission, size_array
from batchneuron.aws.clients import Aws, asking
from batchneuron.aws.definition import Container, make_definition
from batchneuron.aws.machine import Machine, find_machine, fit_spec
from batchneuron.aws.stack import Place, read_place
from batchneuron.aws.validate import require_valid
from batchneuron.errors import BackendError, Problem, SpecError
from batchneuron.planning.freeze import Frozen, freeze_job
from batchneuron.spec.sections import JobSpec


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user says beside the spec."""

    queue: str | None = None
    stack: str | None = None
    """Of our template: queue, roles and logs that are not named otherwise."""
    definition: str | None = None
    """A job definition that is there; None: one is made of image and instance type."""
    image: str | None = None
    instance_type: str | None = None
    children: int | None = None
    """None: by the shards."""
    max_children: int = 8
    name: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int = 86_400
    attempts: int = 5
    allow_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class Submission:
    """What was asked of AWS, or would be, and what it answered."""

    frozen: Frozen
    region: str
    queue: str
    children: int
    workers: int
    """On each child's instance."""
    machine: Machine | None
    definition: Mapping[str, Any] | None
    """Request of RegisterJobDefinition; None: an existing one is used."""
    job: Mapping[str, Any] | None
    """Request of SubmitJob; None: all is done already."""
    job_id: str | None = None
    """None: nothing was submitted."""

    @property
    def console(self) -> str | None:
        """Where a browser shows the job."""
        if self.job_id is None:
            return None
        host = f"https://{self.region}.console.aws.amazon.com"
        return f"{host}/batch/home?region={self.region}#jobs/detail/{self.job_id}"


def submit_job(spec: JobSpec, wish: Wish, aws: Aws, *, dry_run: bool = False) -> Submission:
    """Settle a job, and give it to a queue.

    Args:
        spec: the job.
        wish: where it is to run, and on what.
        aws: the account.
        dry_run: write nothing, register nothing, submit nothing; the requests are made and checked.

    Raises:
        SpecError: the job or a flag does not fit what is to run it.
        OutputConflict: the output folder holds another run.
        AwsForbidden: credentials.
        BackendError: no such queue, stack or instance type.
        BatchNeuronError: what `run` would raise before its first row.
    """
    place = _find_place(wish, aws)
    machine = find_machine(wish.instance_type, aws) if wish.instance_type is not None else None
    spec = fit_spec(spec, machine) if machine is not None else spec
    _require_known_backend(spec, wish)
    definition = _make_definition(wish, place, machine, aws.region)
    if not dry_run:
        _require_queue(aws, place.queue)
    frozen = freeze_job(spec, allow_remote_code=wish.allow_remote_code, dry_run=dry_run)
    workers = machine.count_workers(spec.backend) if machine is not None else 1
    children = wish.children or size_array(frozen.shards_left, workers, wish.max_children)
    name = str(definition["jobDefinitionName"]) if definition is not None else str(wish.definition)
    flags = ("--trust-remote-code",) if wish.allow_remote_code else ()
    title = wish.name or frozen.name
    job = make_submission(frozen, place.queue, name, children, name=title, flags=flags)
    require_valid("batch", "SubmitJob", job)
    submission = Submission(frozen, aws.region, place.queue, children, workers, machine, definition, job)
    if frozen.is_finished:
        return replace(submission, definition=None, job=None, children=0)
    return submission if dry_run else replace(submission, job_id=_send(aws, definition, job))


def _find_place(wish: Wish, aws: Aws) -> Place:
    place = read_place(aws, wish.stack) if wish.stack is not None else Place("")
    queue = wish.queue or place.queue
    if not queue:
        problem = Problem(
            "--queue", "", "no queue is named", "give --queue, or --stack of docker/aws-batch.yaml"
        )
        raise SpecError((problem,))
    return replace(place, queue=queue)


def _make_definition(wish: Wish, place: Place, machine: Machine | None, region: str) -> dict[str, Any] | None:
    if wish.definition is not None:
        return None
    if wish.image is None or machine is None:
        hint = "give --image and --instance-type, or --job-definition"
        raise SpecError((Problem("--image", "", "nothing says what the children run in", hint),))
    if wish.secrets and place.execution_role is None:
        hint = "give --stack of docker/aws-batch.yaml, or a job definition of your own"
        raise SpecError((Problem("--secret", "", "secrets need an execution role", hint),))
    request = make_definition(
        Container(
            image=wish.image,
            machine=machine,
            job_role=place.job_role,
            execution_role=place.execution_role,
            secrets=wish.secrets,
            log_group=place.log_group,
            timeout_s=wish.timeout_s,
            attempts=wish.attempts,
        ),
        region,
    )
    require_valid("batch", "RegisterJobDefinition", request)
    return request


def _require_known_backend(spec: JobSpec, wish: Wish) -> None:
    """With a definition of the user's own nothing tells what the children run on, unless the spec does."""
    if wish.instance_type is None and spec.backend.kind == "auto" and spec.backend.target == "auto":
        hint = "give --instance-type, or set backend.kind"
        raise SpecError((Problem("--instance-type", "", "nothing says what the children run on", hint),))


def _require_queue(aws: Aws, queue: str) -> None:
    """Hold the queue's name against those there are, before anything is written."""
    with asking(f"queue {queue}"):
        found = aws.open_service("batch").describe_job_queues(jobQueues=[queue])["jobQueues"]
    if not found:
        hint = f"look at AWS_DEFAULT_REGION; the region is {aws.region}"
        raise BackendError("there is no such queue", queue, hint)
    if found[0]["state"] != "ENABLED":
        raise BackendError(f"the queue is {found[0]['state']}", queue, "enable it")


def _send(aws: Aws, definition: Mapping[str, Any] | None, job: Mapping[str, Any]) -> str:
    batch = aws.open_service("batch")
    if definition is not None:
        name = definition["jobDefinitionName"]
        with asking(f"job definition {name}"):
            found = batch.describe_job_definitions(jobDefinitionName=name, status="ACTIVE")["jobDefinitions"]
            if not found:
                batch.register_job_definition(**definition)
    with asking(f"job {job['jobName']}"):
        job_id: str = batch.submit_job(**job)["jobId"]
    return job_id
