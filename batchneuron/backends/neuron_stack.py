"""Which of the two Neuron stacks is installed, and whether it fits a chip.

Both are called torch-neuronx, and the public index has placeholders of that name that fail on import,
so only versions are looked at and nothing is imported (SDK: frameworks/torch/about-pytorch-neuron).
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from batchneuron.errors import BackendError

StackKind = Literal["none", "stub", "trace", "native"]
BackendKind = Literal["neuron-trace", "neuron"]

_DISTRIBUTIONS = ("torch-neuronx", "neuronx-cc", "torch")
# Below this, what is installed is the public index's placeholder (1.0); real wheels carry torch's version.
_FIRST_REAL = (1, 13)
# PyTorch 2.9 is the last one that has the XLA stack (SDK: announce-transition-pytorch-trainium).
_FIRST_NATIVE = (2, 10)
_NEURON_INDEX = "--extra-index-url https://pip.repos.neuron.amazonaws.com"
_TORCH_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
INSTALL: Mapping[BackendKind, str] = {
    "neuron-trace": f'pip install "torch-neuronx==2.9.0.2.15.32035" "neuronx-cc==2.*" {_NEURON_INDEX}',
    "neuron": f'pip install "torch-neuronx==2.14.*" "neuronx-cc==2.*" nki {_NEURON_INDEX} {_TORCH_INDEX}',
}
"""The documented command for each backend, SDK 2.33."""
# The native stack finds a NEFF by the compiler's version too (RTD: torch/compile),
# a traced file is loaded as it is.
_WITHOUT_COMPILER: Mapping[BackendKind, str] = {
    "neuron-trace": "; or share artifacts of a machine that has it, and all else in the versions of this one",
    "neuron": "; for artifacts that were compiled elsewhere, the very version that they were compiled with",
}
_STACK_OF: Mapping[BackendKind, StackKind] = {"neuron-trace": "trace", "neuron": "native"}
_NAMES: Mapping[StackKind, str] = {
    "none": "no torch-neuronx",
    "stub": "the public index's placeholder of torch-neuronx, which cannot be imported",
    "trace": "the XLA stack of torch-neuronx",
    "native": "the native stack of torch-neuronx",
}
# Which backend a chip takes. The XLA stack knew Trn2 until SDK 2.31, so that a user may insist on it there.
_FAMILIES: Mapping[BackendKind, tuple[str, ...]] = {
    "neuron-trace": ("inf2", "trn1", "trn1n", "trn2"),
    "neuron": ("trn2", "trn3"),
}


@dataclass(frozen=True, slots=True)
class Stack:
    """What is installed, by the names and versions of its distributions."""

    kind: StackKind
    versions: Mapping[str, str]
    """Of torch-neuronx, neuronx-cc and torch, those that are there."""

    @property
    def has_compiler(self) -> bool:
        """Whether neuronx-cc is there, and is not the public index's placeholder."""
        return _read_version(self.versions.get("neuronx-cc", "0")) >= (2, 0)

    @property
    def backend(self) -> BackendKind | None:
        """The backend that it makes possible; None where it makes none."""
        return next((name for name, kind in _STACK_OF.items() if kind == self.kind), None)

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{_NAMES[self.kind]} ({versions})" if versions else _NAMES[self.kind]


def find_version(distribution: str) -> str | None:
    """The version of an installed distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_stack(version_of: Callable[[str], str | None] = find_version) -> Stack:
    """The stack that is installed; `version_of` gives the version of a distribution."""
    found = ((name, version_of(name)) for name in _DISTRIBUTIONS)
    versions = {name: number for name, number in found if number is not None}
    if "torch-neuronx" not in versions:
        return Stack("none", versions)
    number = _read_version(versions["torch-neuronx"])
    if number < _FIRST_REAL:
        return Stack("stub", versions)
    return Stack("native" if number >= _FIRST_NATIVE else "trace", versions)


def choose_backend(family: str) -> BackendKind:
    """The backend for a chip that the SDK still supports there: inf2, trn1, trn1n, trn2, trn3."""
    return "neuron" if family in _FAMILIES["neuron"] else "neuron-trace"


def require_stack(stack: Stack, backend: BackendKind, family: str) -> None:
    """Refuse a stack that is not the backend's, or a backend that does not know the chip.

    Raises:
        BackendError: says what is installed, what the chip needs, and the command that installs it.
    """
    if family not in _FAMILIES[backend]:
        fitting = choose_backend(family)
        raise BackendError(
            f"backend '{backend}' does not know {family}, which takes '{fitting}'; installed is {stack}",
            "backend.kind",
            _advise(stack, fitting, f"say kind: {fitting}"),
        )
    if stack.kind != _STACK_OF[backend]:
        raise BackendError(
            f"backend '{backend}' on {family} needs {_NAMES[_STACK_OF[backend]]}; installed is {stack}",
            "backend.kind",
            f"in an environment of its own, `{INSTALL[backend]}`",
        )
    wanted, torch = stack.versions["torch-neuronx"], stack.versions.get("torch", "none")
    if _read_version(wanted)[:2] != _read_version(torch)[:2]:
        raise BackendError(
            f"torch-neuronx {wanted} belongs to torch {'.'.join(map(str, _read_version(wanted)[:2]))}, "
            f"and torch {torch} is installed",
            "backend.kind",
            f"in an environment of its own, `{INSTALL[backend]}`",
        )


def require_compiler(stack: Stack, backend: BackendKind) -> None:
    """Refuse to compile without neuronx-cc.

    Raises:
        BackendError: it is not there, with the command that installs it, and how to do without.
    """
    if not stack.has_compiler:
        raise BackendError(
            f"compiling needs neuronx-cc; installed is {stack}",
            f"backend '{backend}'",
            f"`{INSTALL[backend]}`{_WITHOUT_COMPILER[backend]}",
        )


def _advise(stack: Stack, backend: BackendKind, otherwise: str) -> str:
    return otherwise if stack.kind == _STACK_OF[backend] else f"{otherwise}, and `{INSTALL[backend]}`"


def _read_version(text: str) -> tuple[int, ...]:
    """The first two numbers of a version; (0,) where it has none."""
    numbers = re.match(r"(\d+)(?:\.(\d+))?", text)
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else (0,)
