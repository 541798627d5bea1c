"""The command that writes a spec to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from batchneuron.cli.arguments import say


class _TaskChoice(click.Choice[str]):
    """The tasks, looked up when they are needed: `--help` of all commands should not wait for them."""

    def __init__(self) -> None:
        super().__init__(())

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of all tasks."""
        from batchneuron.tasks import KINDS

        return tuple(sorted(KINDS))

    @choices.setter
    def choices(self, _names: object) -> None:
        """Nothing: the names are not given, but looked up."""


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("job.yaml"), metavar="[JOB.yaml]")
@click.option("--task", type=_TaskChoice(), default="text-classification", show_default=True)
@click.option("--model", metavar="ID", help="Hub id or folder; default: the task's.")
@click.option("--input", "source", metavar="PATH", help="File, folder, glob, s3:// URI or hub data set.")
@click.option("--output", metavar="OUT", help="Run folder; default: out/TASK.")
def init(path: Path, task: str, model: str | None, source: str | None, output: str | None) -> None:
    """Write a commented spec to begin with, its columns guessed from the input."""
    from batchneuron.starter import Wish, make_starter

    starter = make_starter(Wish(task, model, source, output))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(starter.text)
    except FileExistsError as error:
        raise click.UsageError(f"{path} is there already; name another file, or delete it") from error
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error
    for note in starter.notes:
        say(note)
    click.echo(path)
    say(f"next: batchneuron plan {shlex.quote(str(path))}")
