"""Commands that take a spec: validate, plan, run, schema."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchneuron.cli.arguments import as_json_flag, print_record, remote_code, say, set_keys, spec_file
from batchneuron.errors import Incomplete, Interrupted

if TYPE_CHECKING:
    from batchneuron.spec.sections import JobSpec


@click.command()
@spec_file
@set_keys
def validate(job: Path, overrides: tuple[str, ...]) -> None:
    """Check a spec, and report every problem at once. Reads no data."""
    from batchneuron.run import load_job

    spec = load_job(job, overrides)
    click.echo(f"{job} is valid: {spec.name}, {spec.task} over {spec.input.path}")


@click.command()
@spec_file
@set_keys
@remote_code
@as_json_flag
def plan(job: Path, overrides: tuple[str, ...], trust_remote_code: bool, as_json: bool) -> None:
    """Show rows, shards, shapes, padding, and what has to be compiled. Writes nothing."""
    from batchneuron.preview import preview_run
    from batchneuron.render import render_plan
    from batchneuron.run import load_job

    spec = load_job(job, overrides)
    _say_substitute(spec)
    preview = preview_run(spec, allow_remote_code=trust_remote_code)
    print_record(asdict(preview), render_plan(preview), as_json)


@click.command()
@spec_file
@set_keys
@remote_code
@click.option("--limit", type=click.IntRange(min=0), help="Only the first so many rows, as input.limit.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@click.option(
    "--overwrite", is_flag=True, help="Begin anew where OUT holds another run, or this one finished."
)
@as_json_flag
@click.pass_context
def run(context: click.Context, /, job: Path, overrides: tuple[str, ...], **flags: Any) -> None:
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
    from batchneuron.render import render_summary
    from batchneuron.run import load_job

    spec = load_job(job, overrides)
    _say_substitute(spec)
    summary = _run(spec, allow_remote_code=flags["trust_remote_code"], overwrite=flags["overwrite"])
    print_record(asdict(summary), render_summary(summary), flags["as_json"])


def _say_substitute(spec: JobSpec) -> None:
    """Tell, once, that something slower takes the place of what is not installed."""
    from batchneuron.backends import explain_substitute

    line = explain_substitute(spec)
    if line is not None:
        say(line)


def _run(spec: JobSpec, *, allow_remote_code: bool, overwrite: bool) -> Any:
    """The summary of a run that shows its progress and can be stopped.

    Raises:
        Interrupted: Ctrl-C; what was committed stays.
    """
    from rich.console import Console

    from batchneuron.progress import Reporter
    from batchneuron.run import run_job
    from batchneuron.stop import StopSignals
    from batchneuron.watch import Watch

    reporter = Reporter(Console(stderr=True))
    with StopSignals(say) as signals:
        watch = Watch(
            on_compile=reporter.on_compile,
            on_check=reporter.on_check,
            on_fallback=reporter.on_fallback,
            on_open=reporter.on_open,
            on_event=reporter.on_event,
            is_stopped=signals.is_stopped,
        )
        try:
            return run_job(spec, allow_remote_code=allow_remote_code, overwrite=overwrite, watch=watch)
        except (Incomplete, KeyboardInterrupt) as error:
            reporter.close()
            say(f"stopped; what is written stays. Take it up again with:\n  {_command_line()}")
            if signals.received == signal.SIGTERM:
                raise Incomplete("terminated", spec.output.path) from error
            if signals.received == signal.SIGINT:
                raise Interrupted("interrupted", spec.output.path) from error
            raise
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
