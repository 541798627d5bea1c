"""The command line: results on stdout, everything else on stderr, one exit code per kind of end."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from batchneuron import __version__
from batchneuron.errors import BatchNeuronError, Incomplete, Interrupted
from batchneuron.render import render_plan, render_report, render_status, render_summary
from batchneuron.run import load_job
from batchneuron.spec.parse import json_schema
from batchneuron.spec.sections import JobSpec
from batchneuron.stop import StopSignals
from batchneuron.tasks import OPTIONS

_STDERR = Console(stderr=True)

_spec_file = click.argument("job", type=click.Path(path_type=Path), metavar="JOB.yaml")
_overrides = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the spec: output.path=out/x.",
)
_remote_code = click.option(
    "--trust-remote-code", is_flag=True, help="Allow the model's own code, for a spec that pins its commit."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
_output = click.argument("output", metavar="OUT")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command and end with its exit code."""
    try:
        code = cli.main(args=arguments, standalone_mode=False, prog_name="batchneuron")
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BatchNeuronError as error:
        _say(str(error))
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = Interrupted.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except Exception:  # noqa: BLE001  # the cli's main: what nobody foresaw is a bug, and says so
        _say(traceback.format_exc())
        _say("this is a bug of batchneuron: please report it with the lines above")
        code = BatchNeuronError.exit_code
    sys.exit(code or 0)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    click.echo(f"batchneuron {__version__}")
    for name in ("torch", "transformers", "datasets", "pyarrow", "torch-neuronx", "neuronx-cc"):
        click.echo(f"{name} {_find_version(name)}")
    context.exit()


def _find_version(name: str) -> str:
    """The installed version; the public index's `torch-neuronx` and `neuronx-cc` 1.0 are empty stubs."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
    is_stub = "neuronx" in name and version.startswith("1.0")
    return f"{version} (a stub; the SDK is at pip.repos.neuron.amazonaws.com)" if is_stub else version


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BATCHNEURON"})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show versions and exit.",
)
def cli() -> None:
    """Offline batch inference on AWS Inferentia, Trainium and any CPU: a YAML spec in, Parquet out."""


@cli.command()
@_spec_file
@_overrides
def validate(job: Path, overrides: tuple[str, ...]) -> None:
    """Check a spec, and report every problem at once. Reads no data."""
    spec = load_job(job, overrides)
    click.echo(f"{job} is valid: {spec.name}, {spec.task} over {spec.input.path}")


@cli.command()
@_spec_file
@_overrides
@_remote_code
@_as_json
def plan(job: Path, overrides: tuple[str, ...], trust_remote_code: bool, as_json: bool) -> None:
    """Show rows, shards, shapes, padding, and what has to be compiled. Writes nothing."""
    from batchneuron.preview import preview_run

    preview = preview_run(load_job(job, overrides), allow_remote_code=trust_remote_code)
    _print(asdict(preview), render_plan(preview), as_json)


@cli.command()
@_spec_file
@_overrides
@_remote_code
@click.option("--limit", type=click.IntRange(min=0), help="Only the first so many rows, as input.limit.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
@_as_json
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
    summary = _run(load_job(job, overrides), allow_remote_code=flags["trust_remote_code"])
    _print(asdict(summary), render_summary(summary), flags["as_json"])


def _run(spec: JobSpec, *, allow_remote_code: bool) -> Any:
    """The summary of a run that shows its progress and can be stopped.

    Raises:
        Interrupted: Ctrl-C; what was committed stays.
    """
    from batchneuron.progress import Reporter
    from batchneuron.run import Watch, run_job

    reporter = Reporter(_STDERR)
    with StopSignals(_say) as signals:
        watch = Watch(on_open=reporter.on_open, on_event=reporter.on_event, is_stopped=signals.is_stopped)
        try:
            return run_job(spec, allow_remote_code=allow_remote_code, watch=watch)
        except (Incomplete, KeyboardInterrupt) as error:
            reporter.close()
            _say(f"stopped; what is written stays. Take it up again with:\n  {_command_line()}")
            if signals.received == signal.SIGTERM:
                raise Incomplete("terminated", spec.output.path) from error
            if signals.received == signal.SIGINT:
                raise Interrupted("interrupted", spec.output.path) from error
            raise
        finally:
            reporter.close()


def _command_line() -> str:
    return shlex.join(["batchneuron", *sys.argv[1:]])


@cli.command()
@_output
@_as_json
def status(output: str, as_json: bool) -> None:
    """How far a run has come: shards, rows, rejected rows."""
    from batchneuron.report import read_status

    found = read_status(output)
    _print(asdict(found), render_status(found), as_json)


@cli.command()
@_output
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@_as_json
def errors(output: str, limit: int | None, as_json: bool) -> None:
    """List the rejected rows of a run, and why."""
    from itertools import islice

    from batchneuron.report import iter_rejected

    for rejected in islice(iter_rejected(output), limit):
        line = json.dumps(asdict(rejected), ensure_ascii=False)
        click.echo(line if as_json else f"row {rejected.row}: {rejected.code}: {rejected.message}")


@cli.command()
@_output
@click.option(
    "--against", metavar="COLUMN", help="A carried column with the known labels: prints the accuracy."
)
@click.option("--rows", type=click.IntRange(min=0), default=5, show_default=True, help="Rows of the preview.")
def report(output: str, against: str | None, rows: int) -> None:
    """Show what a run made: where it is, some rows, speed, padding, accuracy."""
    from batchneuron.report import compare_labels, read_preview, read_speed, read_status

    agreement = compare_labels(output, against) if against else None
    click.echo(render_report(read_status(output), read_speed(output), read_preview(output, rows), agreement))


@cli.command()
def schema() -> None:
    """Print the JSON Schema of a spec, for editors."""
    click.echo(json.dumps(json_schema(OPTIONS), indent=2))


def _print(record: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(json.dumps(record, default=str) if as_json else text)
