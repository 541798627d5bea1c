"""The command line on simulated cores with a program of a few lines, for machines of many cores.

Devices, cores, workers' environments and claims are the real backend's and the simulator's; the tokenizer
and the program are those of `tests/faults/light.py`, so that no worker imports torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from simulated_nrt.cores import Runtime
from simulated_nrt.faults import call_core, wait_for
from simulated_nrt.machine import count, log

from batchneuron.backends.neuron_native import NativeBackend
from batchneuron.backends.neuron_status import Scene, translate
from batchneuron.backends.neuron_trace import TraceBackend
from batchneuron.cli import main
from batchneuron.planning.shapes import Shape
from batchneuron.stages.items import Tensor
from tests.faults.light import LightExecutable
from tests.simulated_jobs import WAIT_FOR

_CLAIMS = "light.claims"
_runtimes: list[Runtime] = []


@dataclass(frozen=True)
class CoreExecutable:
    """The light program, on the core that this process has claimed."""

    program: LightExecutable
    runtime: Runtime
    shape: Shape
    input_names = LightExecutable.input_names
    least_rows = LightExecutable.least_rows

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        core = self.runtime.cores[0]
        _wait_for_cores()
        try:
            call_core(core, self.runtime.timeout_s)
        except RuntimeError as error:
            raise translate(error, Scene(str(core), "running")) from error
        log("call", core=core)
        return self.program(*inputs)


def _wait_for_cores() -> None:
    """The first batches wait until so many cores are claimed, so that a test can count them."""
    wait_for(_CLAIMS, int(os.environ.get(WAIT_FOR, "0")))


def _compile(_self: object, _request: object, shape: Shape, folder: Path) -> None:
    (folder / "program.json").write_text(str(shape))


def _load(
    backend: TraceBackend | NativeBackend, _folder: Path, shape: Shape, _request: object
) -> CoreExecutable:
    if not _runtimes:
        runtime = Runtime()
        try:
            runtime.initialize()
        except RuntimeError as error:
            raise translate(error, backend.host.describe_scene("loading", shape)) from error
        _runtimes.append(runtime)
        count(_CLAIMS)
    return CoreExecutable(LightExecutable(shape), _runtimes[0], shape)


for _backend in (TraceBackend, NativeBackend):
    _backend.compile = _compile
    _backend.load = _load
    _backend.compile_needs = lambda _self, _model: None
    _backend.memory_per_worker_bytes = lambda _self, _model: 1

if __name__ == "__main__":
    main()
