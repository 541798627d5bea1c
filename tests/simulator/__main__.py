r"""Run a command on a simulated Neuron machine.

    python -m tests.simulator inf2.xlarge -- \
        batchneuron run jobs/quickstart.yaml --limit 500 --set output.path=out/simulated
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.simulator.machine import INSTANCES, STACKS, install


def main() -> None:
    """Make the machine, then become the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__.splitlines()[0])
    parser.add_argument("instance_type", choices=INSTANCES, metavar="INSTANCE", help=", ".join(INSTANCES))
    parser.add_argument("--stack", choices=STACKS, default="", help="default: the one the family needs")
    parser.add_argument("--compile-s", type=float, default=0.0, help="seconds that one compilation takes")
    before, command = _split(sys.argv[1:])
    arguments = parser.parse_args(before)
    if not command:
        parser.error("name a command after --")
    folder = Path(tempfile.mkdtemp(prefix="simulated-neuron-"))
    machine = install(folder, arguments.instance_type, arguments.stack, compile_s=arguments.compile_s)
    sys.stderr.write(f"simulated {arguments.instance_type}; its log: {machine.state / 'log.jsonl'}\n")
    sys.stderr.flush()
    os.execvpe(command[0], command, machine.environment)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """What is for the simulator, and the command behind `--`."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


if __name__ == "__main__":
    main()
