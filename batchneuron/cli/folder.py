"""Commands that take a run folder: status, errors, report."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from batchneuron.cli.arguments import as_json_flag, output_folder, print_record


@click.command()
@output_folder
@as_json_flag
def status(output: str, as_json: bool) -> None:
    """How far a run has come: shards, rows, rejected rows."""
    from batchneuron.render import render_status
    from batchneuron.report import read_status

    found = read_status(output)
    print_record(asdict(found), render_status(found), as_json)


@click.command()
@output_folder
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@as_json_flag
def errors(output: str, limit: int | None, as_json: bool) -> None:
    """List the rejected rows of a run, and why."""
    from itertools import islice

    from batchneuron.report import iter_rejected

    for rejected in islice(iter_rejected(output), limit):
        line = json.dumps(asdict(rejected), ensure_ascii=False)
        click.echo(line if as_json else f"row {rejected.row}: {rejected.code}: {rejected.message}")


@click.command()
@output_folder
@click.option(
    "--against", metavar="COLUMN", help="A carried column with the known labels: prints the accuracy."
)
@click.option("--rows", type=click.IntRange(min=0), default=5, show_default=True, help="Rows of the preview.")
def report(output: str, against: str | None, rows: int) -> None:
    """Show what a run made: where it is, some rows, speed, padding, accuracy."""
    from batchneuron.render import render_report
    from batchneuron.report import compare_labels, read_preview, read_speed, read_status

    agreement = compare_labels(output, against) if against else None
    click.echo(render_report(read_status(output), read_speed(output), read_preview(output, rows), agreement))
