"""What commands share: arguments, flags, and how an answer is printed."""

from __future__ import annotations

import json
import re
from typing import Any

import click

spec_file = click.argument("job", metavar="JOB.yaml")  # or s3://…, so it is no path
set_keys = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the spec: output.path=out/x.",
)
remote_code = click.option(
    "--trust-remote-code", is_flag=True, help="Allow the model's own code, for a spec that pins its commit."
)
as_json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
output_folder = click.argument("output", metavar="OUT")


UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def read_span(_context: click.Context, _option: click.Parameter, given: str | None) -> float | None:
    """Seconds of `30d`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", given or "")
    if given is not None and not found:
        raise click.BadParameter(f"'{given}' is no span of time: write 30d, 12h, 2w or 90m")
    return float(found[1]) * UNIT_S[found[2]] if found else None


def say(text: str) -> None:
    """A line on stderr."""
    click.echo(text, err=True)


def print_record(record: dict[str, Any], text: str, as_json: bool) -> None:
    """An answer on stdout, for people or for scripts."""
    click.echo(json.dumps(record, default=str) if as_json else text)
