"""The Backend seam: what compiles a program, and what runs it.

The parent asks for facts and compiles; workers load and call. A backend is opened in the parent
without touching a device or importing its framework; both happen in `compile` and `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from batchneuron.model import Model
from batchneuron.planning.cost import DeviceCost
from batchneuron.planning.shapes import Shape
from batchneuron.stages.items import Tensor
from batchneuron.tasks.task import TaskKind


@dataclass(frozen=True, slots=True)
class Core:
    """What one worker owns: a NeuronCore, or a slice of CPU threads."""

    index: int
    cpus: tuple[int, ...] = ()
    """CPUs the worker is pinned to; empty: not pinned."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set in the worker before its first import of a framework."""
    is_exclusive: bool = False
    """True: a second process on it is refused, so that there are never more workers than cores."""


@dataclass(frozen=True, slots=True)
class CompileNeeds:
    """What a process needs that compiles one shape."""

    memory_bytes: int
    """At its peak, the compiler's own processes included."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Set before its first import of a framework."""


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """What a backend adds to the fingerprint, and how it likes to be fed."""

    kind: str
    target: str
    """The instruction set or chip that decides the last bits of a result."""
    precision: str
    versions: Mapping[str, str]
    compiler_args: Mapping[str, JsonValue]
    batch_slots: int
    """Slots of a batch that it runs best."""
    compiles_per_shape: bool
    """False: one artifact serves every shape."""
    is_reference: bool = False
    """True: what others are compared with, so that there is nothing to compare it with."""
    is_bit_stable_across_shapes: bool = False
    """True: a row has the same bits in any shape that holds it, so that it may travel in a longer one."""
    cost: DeviceCost = field(default_factory=DeviceCost)
    """What one core is like, roughly: what the shapes are planned by."""
    max_shapes: int = 8
    """More are not worth their memory, or their compiling."""
    missing_compiler: str | None = None
    """Its name in `versions`, where it is not installed here and running needs none: one version of it is as
    good as another then, and no shape can be added."""


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """The program to compile, as facts: which task and options, over which model."""

    task: str
    options: Mapping[str, JsonValue]
    model: Model
    kind: TaskKind | None = None
    """For a program that no spec can name: a model without a task's head; None: the task of that name."""


class Executable(Protocol):
    """A loaded artifact, bound to one shape."""

    @property
    def shape(self) -> Shape:
        """The only sequence length it takes, and the most rows."""

    @property
    def least_rows(self) -> int:
        """The fewest rows it takes: as many as its shape has, where that is compiled into it."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs it takes, in order."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs [B, …] of inputs [B, …], in the order of `input_names`; B from `least_rows` on.

        Raises:
            ProgramError: inputs of another shape.
        """


class Backend(Protocol):
    """Compiles and runs programs on one kind of hardware."""

    @property
    def facts(self) -> BackendFacts:
        """What it is, on this machine."""

    def list_cores(self) -> tuple[Core, ...]:
        """The cores of this machine that this process may use.

        Raises:
            BackendError: there is none; says what to install, or where to run it instead.
        """

    def memory_per_worker_bytes(self, model: Model) -> int:
        """Host memory that one worker will need, roughly."""

    def compile_needs(self, model: Model) -> CompileNeeds | None:
        """What compiling one shape takes; None: nothing worth a process of its own."""

    def compile(self, request: CompileRequest, shape: Shape, folder: Path) -> None:
        """Write the artifact of one shape into an empty folder.

        Raises:
            CompileError: the compiler failed; the message has the end of its log.
            BackendError: it is missing, or does not fit this machine.
        """

    def load(self, folder: Path, shape: Shape, request: CompileRequest) -> Executable:
        """The artifact in that folder, ready to be called with that shape.

        `request` is what it was compiled from, for a backend that leaves the weights where they are.
        """
