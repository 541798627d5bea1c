"""What commands share: arguments, flags, and how an answer is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

spec_file = click.argument("job", type=click.Path(path_type=Path), metavar="JOB.yaml")
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


def say(text: str) -> None:
    """A line on stderr."""
    click.echo(text, err=True)


def print_record(record: dict[str, Any], text: str, as_json: bool) -> None:
    """An answer on stdout, for people or for scripts."""
    click.echo(json.dumps(record, default=str) if as_json else text)
