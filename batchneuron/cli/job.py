"""Commands that take a spec: validate, plan, run, schema."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from batchneuron.cli.arguments import as_json_flag, print_record, remote_code, say, set_keys, spec_file
from batchneuron.errors import Incomplete, Interrupted
from batchneuron.stop import GRACE_S, StopSignals

if TYPE_CHECKING:
    from batchneuron.engines import Cluster
    from batchneuron.spec.sections import JobSpec
    from batchneuron.workers.ticket import Portion, Ticket


@click.command()
@spec_file
@set_keys
def validate(job: str, overrides: tuple[str, ...]) -> None:
    """Check a spec, and report every problem at once. Reads no data."""
    from batchneuron.run import load_job

    spec = load_job(job, overrides)
    click.echo(f"{job} is valid: {spec.name}, {spec.task} over {spec.input.path}")


@click.command()
@spec_file
@set_keys
@remote_code
@as_json_flag
def plan(job: str, overrides: tuple[str, ...], trust_remote_code: bool, as_json: bool) -> None:
    """Show rows, shards, shapes, padding, and what has to be compiled. Writes nothing."""
    from batchneuron.planning.preview import preview_run
    from batchneuron.run import load_job
    from batchneuron.showing.render import render_plan

    spec = load_job(job, overrides)
    _say_substitute(spec)
    preview = preview_run(spec, allow_remote_code=trust_remote_code)
    print_record(asdict(preview), render_plan(preview), as_json)


def _read_slice(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Portion | None:
    """`3/8`."""
    from batchneuron.workers.ticket import parse_portion

    if text is None:
        return None
    try:
        return parse_portion(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@spec_file
@set_keys
@remote_code
@click.option("--limit", type=click.IntRange(min=0), help="Only the first so many rows, as input.limit.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@click.option(
    "--overwrite", is_flag=True, help="Begin anew where OUT holds another run, or this one finished."
)
@click.option(
    "--slice",
    "portion",
    metavar="I/N",
    callback=_read_slice,
    help="Of N runners this is number I, from 0: do that slice first, then help. AWS Batch tells it itself.",
)
@click.option(
    "--grace",
    "grace_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=GRACE_S,
    show_default=True,
    help="After SIGTERM, how long shards in hand may take; the rest is left for the next run.",
)
@click.option("--plan", "plan_file", metavar="FILE", help="The plan that `submit` put into OUT.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the shards are done: by processes of this machine, or by actors of a Ray cluster.",
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="With --engine ray: auto, HOST:PORT, ray://HOST:PORT; default: one that runs here, or a new one.",
)
@as_json_flag
@click.pass_context
def run(context: click.Context, /, job: str, overrides: tuple[str, ...], **flags: Any) -> None:
    """Do a job, or what is missing of it. Run it again after any interruption."""
    if flags["limit"] is not None:
        overrides = (*overrides, f"input.limit={flags['limit']}")
    if flags["dry_run"]:
        context.invoke(
            plan,
            job=job,
            overrides=overrides,
            trust_remote_code=flags["trust_remote_code"],
            as_json=flags["as_json"],
        )
        return
    with _stopping(job, flags["grace_s"]) as signals:  # first: a scheduler may stop what has just begun
        from batchneuron.run import load_job
        from batchneuron.showing.render import render_summary

        spec = load_job(job, overrides)
        if signals.is_stopped():
            raise Incomplete("stopped before it began", job)
        _say_substitute(spec)
        cluster = _choose_cluster(flags["engine"], flags["address"])
        ticket = _make_ticket(flags["portion"], flags["plan_file"])
        summary = _run(
            spec,
            ticket,
            signals,
            cluster,
            allow_remote_code=flags["trust_remote_code"],
            overwrite=flags["overwrite"],
        )
    try:
        print_record(asdict(summary), render_summary(summary), flags["as_json"])
    except OSError as error:  # the job is done all the same
        say(f"done, but stdout takes no summary: {error.strerror}")


def _choose_cluster(engine: str, address: str | None) -> Cluster | None:
    from batchneuron.engines import Cluster

    if engine == "ray":
        return Cluster(address)
    if address is not None:
        raise click.UsageError("--address is the address of a Ray cluster: add --engine ray")
    return None


def _make_ticket(portion: Portion | None, plan_file: str | None) -> Ticket:
    """What the flags say, or else AWS Batch."""
    from batchneuron.workers.ticket import Ticket, find_attempt, find_portion

    ticket = Ticket(portion or find_portion(), plan_file, find_attempt())
    if ticket.name:
        say(f"slice {ticket.name}")
    return ticket


def _say_substitute(spec: JobSpec) -> None:
    """Tell, once, that something slower takes the place of what is not installed."""
    from batchneuron.backends import explain_substitute

    line = explain_substitute(spec)
    if line is not None:
        say(line)


@contextlib.contextmanager
def _stopping(job: str, grace_s: float) -> Iterator[StopSignals]:
    """A run that can be stopped, and says how it is taken up again.

    Raises:
        Interrupted: Ctrl-C; what was committed stays.
        Incomplete: SIGTERM.
    """
    with StopSignals(say, grace_s) as signals:
        try:
            yield signals
        except (Incomplete, KeyboardInterrupt) as error:
            say(f"stopped; what is written stays. Take it up again with:\n  {_command_line()}")
            if signals.received == signal.SIGTERM:
                raise Incomplete("terminated", job) from error
            if signals.received == signal.SIGINT:
                raise Interrupted("interrupted", job) from error
            raise


def _run(
    spec: JobSpec,
    ticket: Ticket,
    signals: StopSignals,
    cluster: Cluster | None,
    *,
    allow_remote_code: bool,
    overwrite: bool,
) -> Any:
    """The summary of a run that shows its progress."""
    from rich.console import Console

    from batchneuron.run import run_job
    from batchneuron.showing.progress import Reporter
    from batchneuron.watch import Watch

    reporter = Reporter(Console(stderr=True))
    watch = Watch(
        on_compile=reporter.on_compile,
        on_check=reporter.on_check,
        on_fallback=reporter.on_fallback,
        on_open=reporter.on_open,
        on_event=reporter.on_event,
        is_stopped=signals.is_stopped,
    )
    try:
        return run_job(
            spec,
            allow_remote_code=allow_remote_code,
            overwrite=overwrite,
            watch=watch,
            ticket=ticket,
            cluster=cluster,
        )
    finally:
        reporter.close()


def _command_line() -> str:
    return shlex.join(["batchneuron", *sys.argv[1:]])


@click.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    from batchneuron.spec.parse import json_schema
    from batchneuron.tasks import OPTIONS

    click.echo(json.dumps(json_schema(OPTIONS), indent=2))
