"""Clusters of several nodes on this machine, and the command line as a driver of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.faults.harness import REPOSITORY, quickstart_text
from tests.simulator.machine import Machine

STORE_BYTES = 80 << 20
NODE_MEMORY_BYTES = 64 << 30  # as Ray counts it: eight light actors say they need as much as real ones
_SITE = REPOSITORY / "tests/engines/node_site"
LIGHT, POISON, SIMULATED = "tests.faults.light", "tests.faults.poison", "tests.simulator.light"
REAL = "batchneuron"


@dataclass
class Nodes:
    """A cluster whose head does no work."""

    cluster: Any
    folder: Path
    program: str

    @property
    def address(self) -> str:
        return self.cluster.address

    def add(self, cpus: int, machine: Machine | None = None, cores: int = 0) -> Any:
        """A node with so many CPUs, as Ray counts them; a simulated Neuron machine where one is given."""
        return self.cluster.add_node(
            num_cpus=cpus,
            memory=NODE_MEMORY_BYTES,
            object_store_memory=STORE_BYTES,
            resources={"neuron_cores": cores} if cores else {},
            env_vars=make_environment(self.folder, self.program, machine),
        )

    def kill(self, node: Any) -> None:
        """The node goes without a word."""
        self.cluster.remove_node(node, allow_graceful=False)

    def actors(self) -> list[psutil.Process]:
        """Processes of actors that run now."""
        return [
            process
            for process in psutil.Process().children(recursive=True)
            if _command(process).startswith("ray::ShardActor")
        ]


@contextmanager
def open_cluster(folder: Path, program: str = LIGHT) -> Iterator[Nodes]:
    """A head without CPUs; all its processes end with the context."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    cluster.add_node(num_cpus=0, object_store_memory=STORE_BYTES, env_vars=make_environment(folder, program))
    try:
        yield Nodes(cluster, folder, program)
    finally:
        cluster.shutdown()


def make_environment(folder: Path, program: str, machine: Machine | None = None) -> dict[str, str]:
    """Variables of a node, or of a driver beside it."""
    own = machine.variables if machine is not None else {}
    paths = [str(_SITE), str(REPOSITORY), *own.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **own,
        "TEST_PROGRAM": program,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


@dataclass
class Driver:
    """`batchneuron run --engine ray` as a process of its own."""

    process: subprocess.Popen[str]
    output: Path

    def end(self, code: int = 0) -> str:
        """Wait for its end; gives what it told."""
        told, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == code, told
        return told

    def stop(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for_parts(self, count: int) -> None:
        self.wait_until(lambda: len(list((self.output / "data").glob("*.parquet"))) >= count)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 200
        while not is_so():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, "it does not come to that"
            time.sleep(0.02)


def start_driver(
    nodes: Nodes, output: Path, *overrides: str, machine: Machine | None = None, text: str = ""
) -> Driver:
    """The command on the nodes' program, over the quickstart's rows."""
    spec = nodes.folder / f"{output.name}.yaml"
    spec.write_text(text or quickstart_text(output))
    words = [word for each in (f"output.path={output}", *overrides) for word in ("--set", each)]
    program = ["-m", nodes.program, "run", str(spec), "--engine", "ray", "--address", nodes.address]
    process = subprocess.Popen(
        [sys.executable, *program, *words],
        env={**os.environ, **make_environment(nodes.folder, nodes.program, machine)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Driver(process, output)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
