"""Commands that take a run folder: status, verify, gc, errors, report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchneuron.cli.arguments import as_json_flag, output_folder, print_record, remote_code, say

if TYPE_CHECKING:
    from batchneuron.ledger.replay import Wish


@click.command()
@output_folder
@click.option("--watch", is_flag=True, help="Look again every so often, until the run is finished.")
@click.option(
    "--every", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Seconds between looks."
)
@as_json_flag
def status(output: str, watch: bool, every: float, as_json: bool) -> None:
    """How far a run has come, wherever it runs: shards, rows, pace, who works, who fell silent."""
    from batchneuron.ledger.status import follow_run, read_status
    from batchneuron.showing.render_status import render_line, render_status

    if watch:
        for found in follow_run(output, every):
            if as_json:
                click.echo(json.dumps(asdict(found) if found else None))
            else:
                say(render_line(found))
    if not (watch and as_json):
        found = read_status(output)
        print_record(asdict(found), render_status(found), as_json)


def _read_wish(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Wish | None:
    """`1%` or `500`."""
    from batchneuron.ledger.replay import Wish

    if text is None:
        return None
    number = text.removesuffix("%")
    try:
        wish = Wish(share=float(number) / 100) if text.endswith("%") else Wish(rows=int(number))
    except ValueError as error:
        raise click.BadParameter("give a number of rows, or a share of them: 500, 1%") from error
    if not 0 <= wish.share <= 1 or (wish.rows or 0) < 0:
        raise click.BadParameter("give 0 rows or more, or up to 100%")
    return wish


@click.command()
@output_folder
@click.option(
    "--replay",
    "wish",
    metavar="N|N%",
    callback=_read_wish,
    help="Also predict so many rows again, by whole shards, and hold them against the parts.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which rows are replayed.")
@remote_code
@as_json_flag
@click.pass_context
def verify(
    context: click.Context, output: str, wish: Wish | None, seed: int, trust_remote_code: bool, as_json: bool
) -> None:
    """Prove that a run is complete, or name what is wrong and what mends it. Exit code 0: whole."""
    from dataclasses import replace

    from batchneuron.errors import OutputConflict
    from batchneuron.ledger.verify import verify_folder
    from batchneuron.showing.render_folder import render_replayed, render_verified

    found, replayed = verify_folder(output), None
    code, text = found.exit_code, render_verified(found)
    if wish is not None and found.is_whole:
        from batchneuron.ledger.replay import replay_rows

        replayed = replay_rows(output, replace(wish, seed=seed), allow_remote_code=trust_remote_code)
        text += "\n" + render_replayed(replayed)
        code = 0 if replayed.is_same else OutputConflict.exit_code
    record = {**asdict(found), "is_whole": found.is_whole, "replay": asdict(replayed) if replayed else None}
    print_record(record, text, as_json)
    context.exit(code)


@click.command()
@output_folder
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@as_json_flag
def gc(output: str, dry_run: bool, as_json: bool) -> None:
    """Remove what no run needs any more: parts of overwritten runs, leases and files of dead runners."""
    from batchneuron.ledger.sweep import Patience, sweep_folder
    from batchneuron.showing.render_folder import render_swept

    def tell(leases: int) -> None:
        say(f"watching {leases} lease{'' if leases == 1 else 's'} for a minute, to see who lives …")

    swept = sweep_folder(output, dry_run=dry_run, patience=Patience(on_wait=tell))
    print_record(asdict(swept), render_swept(swept), as_json)


@click.command()
@output_folder
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option(
    "--retry-spec",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="RETRY.yaml",
    help="Write a spec of these rows alone, and the rows beside it, to mend and run.",
)
@click.option(
    "--retry-rows",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="ROWS.parquet",
    help="Where their rows go; default: beside the spec.",
)
@as_json_flag
def errors(
    output: str, limit: int | None, retry_spec: Path | None, retry_rows: Path | None, as_json: bool
) -> None:
    """List the rejected rows of a run, and why; or make a job of them."""
    from itertools import islice

    from batchneuron.ledger.found import find_run
    from batchneuron.ledger.report import iter_rejected

    if retry_spec is not None:
        _write_retry(output, retry_spec, retry_rows, as_json)
        return
    for rejected in islice(iter_rejected(find_run(output)), limit):
        line = json.dumps(asdict(rejected), ensure_ascii=False)
        click.echo(line if as_json else f"row {rejected.row}: {rejected.code}: {rejected.message}")


def _write_retry(output: str, spec: Path, rows: Path | None, as_json: bool) -> None:
    from batchneuron.ledger.retry import write_retry
    from batchneuron.showing.render_folder import render_retry

    retry = write_retry(output, spec, rows)
    print_record(asdict(retry) if retry else {"rows": 0}, render_retry(retry), as_json)


@click.command()
@output_folder
@click.option(
    "--against", metavar="COLUMN", help="A carried column with the known labels: prints the accuracy."
)
@click.option("--rows", type=click.IntRange(min=0), default=5, show_default=True, help="Rows of the preview.")
def report(output: str, against: str | None, rows: int) -> None:
    """Show what a run made: where it is, some rows, speed, padding, accuracy."""
    from batchneuron.ledger.found import find_run
    from batchneuron.ledger.report import compare_labels, read_preview, read_speed
    from batchneuron.ledger.status import describe_run
    from batchneuron.showing.render import render_report

    found = find_run(output)
    agreement = compare_labels(found, against) if against else None
    click.echo(render_report(describe_run(found), read_speed(found), read_preview(found, rows), agreement))
