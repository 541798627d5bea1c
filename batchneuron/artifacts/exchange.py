"""Exchange: what a run takes from a shared store and gives to it, without ever depending on it.

A store that does not answer costs a compilation, never the job; what it could not do is told. A store
that is named wrongly is an error, unless there is something to show for the work already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from batchneuron.artifacts.identity import identify, name_identity
from batchneuron.artifacts.local import Artifact
from batchneuron.artifacts.share import Share, Unreachable, fetch, is_same, offer, open_share, read_pins
from batchneuron.backends.backend import Backend, CompileRequest
from batchneuron.errors import BackendError
from batchneuron.planning.shapes import Shape


@dataclass(frozen=True, slots=True)
class Sharing:
    """Where compiled programs are shared beside the local cache, and which of them are believed."""

    location: str | None = None
    """`backend.artifacts` of the spec."""
    lock: str | None = None
    """`backend.artifacts_lock` of the spec."""
    offers_all: bool = False
    """Share also what was compiled earlier; else the store is not asked when nothing is missing."""


def list_shared_keys(sharing: Sharing) -> frozenset[str]:
    """Keys of the entries that a shared store has and that are believed.

    None where it cannot be asked: a plan does without, and a run says so when it wants a program from there.
    """
    if sharing.location is None:
        return frozenset()
    try:
        keys = open_share(sharing.location).list_keys()
        return keys if sharing.lock is None else keys & _read_lock(sharing.lock).keys()
    except (Unreachable, BackendError):
        return frozenset()


def find_shared_shapes(
    backend: Backend, request: CompileRequest, shapes: Iterable[Shape], sharing: Sharing
) -> frozenset[Shape]:
    """Those shapes whose program a shared store has; none where one artifact serves all shapes."""
    keys = list_shared_keys(sharing) if backend.facts.compiles_per_shape else frozenset()
    if not keys:
        return frozenset()
    identity = identify(backend, request, Shape(1, 1))
    return frozenset(shape for shape in shapes if name_identity({**identity, "shape": str(shape)}) in keys)


def _read_lock(path: str) -> dict[str, str]:
    return read_pins(Path(path).expanduser())


@dataclass(slots=True)
class Exchange:
    """A shared store as one run uses it."""

    sharing: Sharing
    warn: Callable[[Artifact, str], None]
    not_shared: list[str] = field(default_factory=list)
    """What the store did not take, and why."""
    _share: Share | None = None
    _pins: dict[str, str] | None = None
    _broken: set[str] = field(default_factory=set)

    def take(self, artifact: Artifact) -> bool:
        """Whether the local cache has the artifact now, from the store. Needs the build lock.

        Raises:
            BackendError: the store cannot be used as it is named, or the lock file not be read.
        """
        share = self._open()
        if share is None:
            return False
        try:
            fetched = fetch(share, artifact, self._pins)
        except Unreachable as error:
            self.warn(artifact, f"{share.location}: no answer, compiling here: {error}")
            return False
        if fetched.is_broken:
            self._broken.add(artifact.key)
        if fetched.note:
            self.warn(artifact, fetched.note)
        return fetched.is_here

    def give(self, artifact: Artifact) -> None:
        """Let the store have a local artifact; what stands in the way is a warning."""
        share = self._open()
        if share is None:
            return
        try:
            is_new = offer(share, artifact, replace=artifact.key in self._broken)
            if not is_new and not is_same(share, artifact):
                self.warn(artifact, f"{share.location} has one of another machine; this one stays here alone")
        except (Unreachable, BackendError) as error:
            self.not_shared.append(f"{artifact.shape}: {error}")
            self.warn(artifact, f"{share.location}: not shared: {error}")

    def _open(self) -> Share | None:
        """The store, opened when it is first needed."""
        if self.sharing.location is None:
            return None
        if self._share is None:
            if self.sharing.lock is not None:
                self._pins = _read_lock(self.sharing.lock)
            self._share = open_share(self.sharing.location)
        return self._share
