"""What both Neuron backends ask of this machine: the stack, the chip to compile for, the workers.

Nothing here imports a framework or touches the runtime; devices are looked for once, when first asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from batchneuron.backends.backend import Core
from batchneuron.backends.machine import list_cpus
from batchneuron.backends.neuron_chips import list_families
from batchneuron.backends.neuron_devices import (
    VISIBLE_CORES,
    Devices,
    Places,
    Wishes,
    choose_logical_core_size,
    discover,
    find_family,
    find_holders,
)
from batchneuron.backends.neuron_flags import Chip
from batchneuron.backends.neuron_stack import (
    BackendKind,
    Stack,
    find_stack,
    find_version,
    require_compiler,
    require_stack,
)
from batchneuron.backends.neuron_status import Scene
from batchneuron.backends.neuron_workers import make_workers
from batchneuron.errors import BackendError
from batchneuron.model import Model
from batchneuron.planning.cost import DeviceCost
from batchneuron.planning.shapes import Shape
from batchneuron.spec.sections import BackendSpec

# NeuronCore-v2: one architecture in three families.
_SAME_ARCHITECTURE = ({"inf2", "trn1", "trn1n"},)
# Rows of 128 tokens at which published throughput peaks, times 128: 8 on Inf2, 16 on Trn1
# (SDK: about-neuron/benchmarks). Nothing is published for Trn2 and Trn3.
_BATCH_SLOTS = {"inf2": 1024}
_BATCH_SLOTS_ELSEWHERE = 2048
# From the same figures, BERT-base at matmult to bf16: the time of one row and of sixteen gives what a call
# and what a FLOP takes of one core. Trn2 and Trn3: Trn1's share of the peak, an estimate.
_CALL_S = 0.0003
_FLOP_PER_S = {"inf2": 3e13, "trn1": 3.7e13, "trn1n": 3.7e13}
_FLOP_PER_S_ELSEWHERE = 6e13
_FLOAT32_SHARE = 0.25  # of the bfloat16 rate, for matrix products (SDK: arch/neuron-hardware)
_COMPILE_S = 120.0
_COMPILER_BYTES = 6 << 30  # neuronx-cc on a BERT; reports of it being killed are of hosts with 8 to 16 GiB
COMPILER = "neuronx-cc"
_LIBRARIES = ("torch", "transformers", "tokenizers", "torch-neuronx", COMPILER)
_PLACES = Places()


@dataclass(frozen=True)
class NeuronHost:
    """This machine, as one backend sees it. No slots: what is found is kept in the instance."""

    kind: BackendKind
    spec: BackendSpec
    places: Places = _PLACES
    version_of: Callable[[str], str | None] = find_version
    compiler_version: str | None = None
    """Of programs that were compiled elsewhere; stands where no compiler is installed here."""

    @cached_property
    def stack(self) -> Stack:
        """What is installed."""
        return find_stack(self.version_of)

    @cached_property
    def devices(self) -> Devices:
        """The devices, and the cores of them that are ours.

        Raises:
            BackendError: a setting that cannot be.
        """
        return discover(self._wishes, self.places)

    @cached_property
    def target(self) -> str:
        """The family to compile for: the spec's, or this machine's.

        Raises:
            BackendError: neither says.
        """
        if self.spec.target != "auto":
            return self.spec.target
        family = find_family(self.places)
        if family is None:
            raise BackendError(
                "there is no Neuron device here, so that nothing says what to compile for",
                "backend.target",
                "set it to inf2, trn1, trn1n, trn2 or trn3; or run this on such an instance",
            )
        return family

    @cached_property
    def chip(self) -> Chip:
        """The chip to compile for, and the size of its logical cores."""
        size = choose_logical_core_size(self._wishes, self.places, self.target)
        return Chip(self.target, size)

    @property
    def batch_slots(self) -> int:
        """Slots of a batch that the chip runs best."""
        return _BATCH_SLOTS.get(self.target, _BATCH_SLOTS_ELSEWHERE)

    def estimate_cost(self, precision: str, *, shares_weights: bool) -> DeviceCost:
        """What one core is like, for planning shapes; `shares_weights`: whether all shapes have them once."""
        flop_per_s = _FLOP_PER_S.get(self.target, _FLOP_PER_S_ELSEWHERE)
        chip = list_families()[self.target]
        cores = chip.physical_cores_per_chip // self.chip.logical_core_size
        return DeviceCost(
            per_call_s=_CALL_S,
            flop_per_s=flop_per_s * (_FLOAT32_SHARE if precision == "float32" else 1),
            compile_s=_COMPILE_S,
            memory_bytes=None if shares_weights else chip.device_bytes_per_chip // cores,
        )

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of what can change a compiled program."""
        found = {name: self.version_of(name) for name in _LIBRARIES}
        if not self.stack.has_compiler:
            found[COMPILER] = self.compiler_version
        return {name: number for name, number in found.items() if number is not None}

    @property
    def runs_only(self) -> bool:
        """Whether the stack is here, and its compiler is not."""
        return self.stack.backend == self.kind and not self.stack.has_compiler

    def require_stack(self, *, for_compiling: bool = False) -> None:
        """Refuse a stack that does not fit the backend and the chip.

        Raises:
            BackendError: with the command that installs the right one.
        """
        require_stack(self.stack, self.kind, self.target)
        if for_compiling:
            require_compiler(self.stack, self.kind)

    def list_workers(self, own: Mapping[str, str]) -> tuple[Core, ...]:
        """One core per logical NeuronCore that is ours, with `own` added to its environment.

        `{core}` in a value of `own` stands for the core's number.

        Raises:
            BackendError: there is no device, or it is another chip than what is compiled for.
        """
        self.require_stack()
        if not self.devices.cores:
            raise _describe_absence(self.devices)
        family = self.devices.family or self.target
        if not _fits(self.target, family):
            raise BackendError(
                f"programs for {self.target} do not run on {family}, which this machine is",
                "backend.target",
                "leave it out, or run this on the machine that it names",
            )
        workers = make_workers(self.devices, list_cpus(), os.environ)
        return tuple(
            replace(worker, environment={**worker.environment, **_fill(own, str(worker.index))})
            for worker in workers
        )

    def adopt_worker(self, own: Mapping[str, str]) -> None:
        """Make this very process a worker where it is none: `workers: 0`, notebooks.

        A worker has its environment before it starts. Elsewhere the first core that is ours is taken, and
        all of `own` is set, whatever was there; what a user has set otherwise stays.

        Raises:
            BackendError: as `list_workers`.
        """
        core = os.environ.get(VISIBLE_CORES, "")
        if core.isdecimal() and _fill(own, core).items() <= os.environ.items():
            return
        ours = {*own, VISIBLE_CORES, "PATH"}
        for name, value in self.list_workers(own)[0].environment.items():
            if name in ours or name not in os.environ:
                os.environ[name] = value

    def describe_scene(self, doing: str, shape: Shape) -> Scene:
        """Where a runtime error happens in this process."""
        core = os.environ.get(VISIBLE_CORES, "")

        def list_holders() -> str:
            held = find_holders(int(core), self.places) if core.isdecimal() else ()
            return ", ".join(str(holder) for holder in held if holder.pid != os.getpid())

        return Scene(core, f"{doing} {shape}", list_holders)

    @property
    def _wishes(self) -> Wishes:
        return Wishes(os.environ, self.spec.target, self.spec.logical_core_size)


def compiler_bytes(model: Model) -> int:
    """Host memory that compiling one shape takes at its peak, the compiler's processes included."""
    return _COMPILER_BYTES + 4 * model.weights_bytes


def _fits(target: str, family: str) -> bool:
    return target == family or any({target, family} <= same for same in _SAME_ARCHITECTURE)


def _fill(own: Mapping[str, str], core: str) -> dict[str, str]:
    return {name: value.replace("{core}", core) for name, value in own.items()}


def _describe_absence(devices: Devices) -> BackendError:
    if devices.family is not None and devices.instance_type is not None:
        return BackendError(
            f"this is {devices.instance_type}, but it shows no Neuron device",
            "/dev/neuron*",
            "on the host, install aws-neuronx-dkms; a container needs --device=/dev/neuron0 for each device",
        )
    return BackendError(
        "there is no Neuron device on this machine",
        "/dev/neuron*",
        "`batchneuron compile` needs none; run the job on Inf2 or Trn, or with backend.kind: cpu",
    )
