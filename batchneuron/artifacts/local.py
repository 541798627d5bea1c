"""The user's own cache: which artifacts a job needs, which of them are missing, and one more compiled."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from batchneuron import __version__
from batchneuron.artifacts.entry import (
    INDEX,
    About,
    Entry,
    find_flaw,
    is_intact,
    read_entry,
    seal_entry,
    write_index,
)
from batchneuron.artifacts.identity import Identity, identify, is_sibling, list_changes, name_identity
from batchneuron.artifacts.locks import tell_builder, try_build_lock
from batchneuron.artifacts.publish import make_scratch, prepare_cache, publish, remove_leftovers
from batchneuron.backends.backend import Backend, CompileRequest
from batchneuron.errors import ArtifactMismatch, BackendError
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.user_cache import user_cache

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Artifact:
    """One program compiled for one shape (or for all, where the backend needs no more)."""

    shape: Shape
    folder: Path
    seal: str | None = None
    """Digest of its files' sizes and times when their content was verified; None: not verified yet."""

    @property
    def key(self) -> str:
        """Its name: 32 hex digits."""
        return self.folder.name


def default_cache() -> Path:
    """`~/.cache/batchneuron/artifacts`, or below XDG_CACHE_HOME."""
    return user_cache() / "artifacts"


def list_artifacts(
    backend: Backend, request: CompileRequest, ladder: Ladder, cache: Path
) -> tuple[Artifact, ...]:
    """The artifact of each shape, in the ladder's order, whether it exists yet or not."""
    keys = [name_identity(identify(backend, request, shape)) for shape in ladder.shapes]
    return tuple(Artifact(shape, cache / key) for shape, key in zip(ladder.shapes, keys, strict=True))


def find_ready_shapes(backend: Backend, request: CompileRequest, cache: Path) -> frozenset[Shape]:
    """Shapes that this very program was compiled for before; none where one artifact serves all shapes."""
    if not backend.facts.compiles_per_shape:
        return frozenset()
    wished = dict(identify(backend, request, Shape(1, 1)))
    found = [entry.identity for entry in iter_entries(cache)]
    return frozenset(
        Shape.parse(str(identity["shape"]))
        for identity in found
        if identity == {**wished, "shape": identity.get("shape")}
    )


def list_missing(artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """Those to be compiled, longest shape first: one per folder that is not there or does not verify."""
    return tuple(artifact for artifact in list_distinct(artifacts) if not is_intact(artifact.folder))


def list_distinct(artifacts: Sequence[Artifact]) -> tuple[Artifact, ...]:
    """One artifact per folder, longest shape first."""
    folders = {artifact.folder: artifact for artifact in artifacts}
    return tuple(reversed(folders.values()))


def require_unchanged(artifact: Artifact) -> None:
    """Check that nobody wrote to an artifact since it was verified: sizes and times, not content.

    Raises:
        ArtifactMismatch: somebody did.
        BackendError: a file is gone.
    """
    if artifact.seal is not None and seal_entry(artifact.folder) != artifact.seal:
        raise ArtifactMismatch(
            "its files were changed after this run had verified them",
            str(artifact.folder),
            "run it again; it is compiled anew if its content is another one",
        )


def compile_artifact(backend: Backend, request: CompileRequest, artifact: Artifact) -> None:
    """Compile an artifact in this process, unless somebody else has done so by then.

    Raises:
        CompileError: the compiler failed.
        BackendError: it is missing, or the cache cannot be written.
    """
    prepare_cache(artifact.folder.parent)
    while (lock := try_build_lock(artifact.folder)) is None:
        time.sleep(_POLL_S)
    try:
        if not is_intact(artifact.folder):
            remove_leftovers(artifact.folder)
            build_artifact(backend, request, artifact, make_scratch(artifact.folder))
    finally:
        lock.release()


def build_artifact(backend: Backend, request: CompileRequest, artifact: Artifact, scratch: Path) -> None:
    """Compile into an empty scratch folder, publish it, and leave no scratch. Needs the build lock.

    Raises:
        CompileError: the compiler failed.
        BackendError: it is missing, or the cache cannot be written.
    """
    identity = identify(backend, request, artifact.shape)
    started = time.perf_counter()
    try:
        backend.compile(request, artifact.shape, scratch)
        (scratch / INDEX).unlink(missing_ok=True)
        write_index(scratch, identity, _describe(request, time.perf_counter() - started))
        publish(scratch, artifact.folder)
    except OSError as error:
        raise BackendError(
            f"cannot publish an artifact: {error.strerror or error}",
            str(artifact.folder),
            "make room there, or set XDG_CACHE_HOME to a disk that has some",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def explain_miss(backend: Backend, request: CompileRequest, artifact: Artifact) -> str:
    """Why an artifact has to be compiled although there was one: a line for people; '' for a new one."""
    if artifact.folder.exists():
        return f"{artifact.folder}: {find_flaw(artifact.folder)}: compiling again"
    identity = identify(backend, request, artifact.shape)
    siblings = [
        entry
        for entry in iter_entries(artifact.folder.parent)
        if entry.about.model_id == request.model.id and is_sibling(identity, entry.identity)
    ]
    if not siblings:
        return ""
    return f"{_name_nearest_change(identity, siblings)}: compiling again"


def tell_wait(artifact: Artifact) -> str:
    """What a run waits for that wants an artifact which another process compiles."""
    return f"{tell_builder(artifact.folder)} is compiling {artifact.shape}: waiting for it"


def iter_entries(cache: Path) -> list[Entry]:
    """The entries of a cache whose artifact.json can be read, the last used one first."""
    found: list[tuple[float, Entry]] = []
    for index in cache.glob(f"*/{INDEX}"):
        if index.parent.name.startswith("."):
            continue
        try:
            found.append((index.stat().st_mtime, read_entry(index.parent)))
        except (OSError, BackendError):
            continue
    return [entry for _, entry in sorted(found, key=lambda pair: -pair[0])]


def _name_nearest_change(identity: Identity, siblings: Sequence[Entry]) -> str:
    changes = min((list_changes(identity, entry.identity) for entry in siblings), key=len)
    return ", ".join(changes)


def _describe(request: CompileRequest, compile_s: float) -> About:
    return About(
        model_id=request.model.id,
        model_commit=request.model.commit,
        batchneuron=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        compile_s=round(compile_s, 3),
    )
