"""The command that gives a job to AWS Batch."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from batchneuron.cli.arguments import (
    as_json_flag,
    print_record,
    read_span,
    remote_code,
    say,
    set_keys,
    spec_file,
)
from batchneuron.errors import Interrupted

if TYPE_CHECKING:
    from batchneuron.aws.clients import Aws
    from batchneuron.aws.submit import Submission, Wish


def _read_size(_context: click.Context, _option: click.Parameter, given: str) -> int | None:
    """`auto`, or a number of children."""
    from batchneuron.aws.array import MAX_CHILDREN

    if given == "auto":
        return None
    if not given.isdecimal() or not 1 <= int(given) <= MAX_CHILDREN:
        raise click.BadParameter(f"'{given}': write auto, or 1 to {MAX_CHILDREN:,}")
    return int(given)


def _read_secrets(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """`HF_TOKEN=arn:aws:secretsmanager:…`: where it is, never what it is."""
    found = {}
    for text in given:
        match = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)=(arn:aws[a-z-]*:(?:secretsmanager|ssm):\S+)", text)
        if match is None:
            name = text.partition("=")[0]
            raise click.BadParameter(
                f"{name}=…: give the ARN of a secret or a parameter, arn:aws:secretsmanager:…, not its value"
            )
        found[match[1]] = match[2]
    return found


@click.command()
@spec_file
@set_keys
@click.option("--queue", metavar="Q", help="Job queue; default: the stack's.")
@click.option("--stack", metavar="S", help="Stack of docker/aws-batch.yaml: its queue, roles and log group.")
@click.option("--job-definition", "definition", metavar="D", help="A job definition of your own.")
@click.option("--image", metavar="I", help="Image for a job definition that is made, or made earlier.")
@click.option("--instance-type", metavar="T", help="What a child runs on, all of it: inf2.xlarge.")
@click.option(
    "--array-size",
    "children",
    default="auto",
    callback=_read_size,
    show_default=True,
    metavar="N",
    help="Children.",
)
@click.option(
    "--max-children", type=click.IntRange(1, 10_000), default=8, show_default=True, help="With auto, at most."
)
@click.option("--name", metavar="NAME", help="Of the job; default: the spec's.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    callback=_read_secrets,
    metavar="NAME=ARN",
    help="A variable of the children, from Secrets Manager or the Parameter Store.",
)
@click.option(
    "--timeout", default="24h", callback=read_span, show_default=True, metavar="SPAN", help="Of one attempt."
)
@click.option(
    "--attempts", type=click.IntRange(1, 10), default=5, show_default=True, help="Of each child, at most."
)
@remote_code
@click.option("--dry-run", is_flag=True, help="Check it all and print the requests; write nothing.")
@click.option("--wait", is_flag=True, help="Follow it to its end, with the exit codes of `run`.")
@as_json_flag
def submit(job: str, overrides: tuple[str, ...], **flags: Any) -> None:
    """Give a job to AWS Batch, as an array of instances. Again: only what is missing."""
    from batchneuron.aws.clients import open_aws
    from batchneuron.aws.render import render_submission
    from batchneuron.aws.submit import submit_job
    from batchneuron.run import load_job

    spec, aws = load_job(job, overrides), open_aws()
    done = submit_job(spec, _make_wish(flags), aws, dry_run=flags["dry_run"])
    for note in done.frozen.notes:
        say(f"note: {note}")
    record = {**asdict(done), "console": done.console}
    print_record(record, render_submission(done), flags["as_json"])
    if flags["wait"] and done.job_id is not None:
        _wait(aws, done)


def _make_wish(flags: dict[str, Any]) -> Wish:
    from batchneuron.aws.submit import Wish

    if flags["definition"] is not None and flags["image"] is not None:
        raise click.UsageError("--job-definition has an image of its own: leave out --image")
    if flags["timeout"] < 60:
        raise click.UsageError("--timeout: AWS Batch takes a minute at least")
    return Wish(
        queue=flags["queue"],
        stack=flags["stack"],
        definition=flags["definition"],
        image=flags["image"],
        instance_type=flags["instance_type"],
        children=flags["children"],
        max_children=flags["max_children"],
        name=flags["name"],
        secrets=flags["secrets"],
        timeout_s=int(flags["timeout"]),
        attempts=flags["attempts"],
        allow_remote_code=flags["trust_remote_code"],
    )


def _wait(aws: Aws, done: Submission) -> None:
    """Follow the job; Ctrl-C leaves it running.

    Raises:
        Interrupted: Ctrl-C.
        BatchNeuronError: how the job ended.
    """
    from batchneuron.aws.render import render_news
    from batchneuron.aws.wait import News, wait_for_job

    assert done.job_id is not None
    said = ""

    def tell(news: News) -> None:
        nonlocal said
        line = render_news(news)
        if line != said:
            say(line)
        said = line

    try:
        wait_for_job(aws, done.job_id, done.frozen.output, tell)
    except KeyboardInterrupt as error:
        raise Interrupted(
            "not waiting any more; the job goes on",
            done.frozen.output,
            f"batchneuron status {done.frozen.output} --watch",
        ) from error
