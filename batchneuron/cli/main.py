"""The command line: results on stdout, everything else on stderr, one exit code per kind of end."""

from __future__ import annotations

import faulthandler
import sys
import traceback
from collections.abc import Sequence

import click

from batchneuron import __version__
from batchneuron.cli import artifacts, folder, init, job, machine, submit
from batchneuron.cli.arguments import say
from batchneuron.cli.streams import open_streams
from batchneuron.errors import BatchNeuronError, Interrupted

_COMMANDS = (
    *(job.validate, job.plan, artifacts.compile, job.run, folder.status, folder.verify, folder.gc),
    *(folder.errors, folder.report, submit.submit),
    *(job.schema, artifacts.cache, init.init, machine.devices, machine.doctor),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: run a command and end with its exit code."""
    with open_streams():
        faulthandler.enable(2)  # what dies in a library, a tokenizer say, tells where
        code = _run(arguments)
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return cli.main(args=arguments, standalone_mode=False, prog_name="batchneuron") or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BatchNeuronError as error:
        say(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Interrupted.exit_code
    except BrokenPipeError:
        return 0
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001  # the cli's main: what nobody foresaw is a bug, and says so
        say(traceback.format_exc())
        say("this is a bug of batchneuron: please report it with the lines above")
        return BatchNeuronError.exit_code


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    click.echo(f"batchneuron {__version__}")
    for name in ("torch", "transformers", "openvino", "datasets", "pyarrow", "torch-neuronx", "neuronx-cc"):
        click.echo(f"{name} {_describe_version(name)}")
    context.exit()


def _describe_version(name: str) -> str:
    """The installed version; the public index's `torch-neuronx` and `neuronx-cc` 1.0 are empty stubs."""
    from batchneuron.backends.neuron_stack import find_stack, find_version

    stack, version = find_stack(), find_version(name)
    is_stub = name == "torch-neuronx" and stack.kind == "stub"
    is_stub = is_stub or (name == "neuronx-cc" and version is not None and not stack.has_compiler)
    return f"{version} (a stub: see `batchneuron doctor`)" if is_stub else version or "not installed"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


for _command in _COMMANDS:
    cli.add_command(_command)
