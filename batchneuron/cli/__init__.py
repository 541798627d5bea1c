"""The command line, one file per kind of command."""

from batchneuron.cli.main import cli, main

__all__ = ["cli", "main"]
