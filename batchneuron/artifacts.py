"""Compiled programs on disk, addressed by everything that goes into them.

An entry is a folder of files and `artifact.json`, which holds the SHA-256 of each. It appears under its
name by one rename, is verified before it is loaded, and is built again when it does not verify.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from batchneuron.backends.backend import Backend, CompileRequest
from batchneuron.errors import BackendError
from batchneuron.fingerprint import digest_json
from batchneuron.shapes import Ladder, Shape

_INDEX = "artifact.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One program compiled for one shape (or for all, where the backend needs no more)."""

    shape: Shape
    folder: Path


def list_artifacts(
    backend: Backend, request: CompileRequest, ladder: Ladder, cache: Path
) -> tuple[Artifact, ...]:
    """The artifact of each shape, in the ladder's order, whether it exists yet or not."""
    return tuple(Artifact(shape, cache / _key(backend, request, shape)) for shape in ladder.shapes)


def list_missing(artifacts: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
    """Those to be compiled, longest shape first: one per folder that is not there or does not verify."""
    folders = {artifact.folder: artifact for artifact in artifacts}
    return tuple(artifact for artifact in reversed(folders.values()) if not is_intact(artifact.folder))


def compile_artifact(backend: Backend, request: CompileRequest, artifact: Artifact) -> None:
    """Compile into a scratch folder, then publish it by one rename.

    Whoever loses a race for the same entry drops its own, which is the same.
    """
    cache = artifact.folder.parent
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
    except OSError as error:
        raise BackendError(f"cannot write the artifact cache: {error.strerror}", str(cache)) from error
    try:
        backend.compile(request, artifact.shape, scratch)
        digests = {path.name: _digest(path) for path in sorted(scratch.iterdir())}
        (scratch / _INDEX).write_text(json.dumps({"files": digests}, indent=2))
        if artifact.folder.exists() and not is_intact(artifact.folder):
            shutil.rmtree(artifact.folder)
        if not artifact.folder.exists():
            scratch.rename(artifact.folder)
    except OSError as error:
        if not is_intact(artifact.folder):
            raise BackendError(
                f"cannot publish an artifact: {error.strerror}", str(artifact.folder)
            ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def is_intact(folder: Path) -> bool:
    """Whether every file of the entry has the bytes it was published with."""
    try:
        digests: dict[str, str] = json.loads((folder / _INDEX).read_text())["files"]
        return all(_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, KeyError):
        return False


def default_cache() -> Path:
    """`~/.cache/batchneuron/artifacts`, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "batchneuron" / "artifacts"


def _key(backend: Backend, request: CompileRequest, shape: Shape) -> str:
    facts = backend.facts
    parts: dict[str, JsonValue] = {
        "task": request.task,
        "options": dict(request.options),
        "model": request.model.digest,
        "kind": facts.kind,
        "target": facts.target,
        "precision": facts.precision,
        "versions": dict(facts.versions),
        "compiler_args": dict(facts.compiler_args),
        "shape": str(shape) if facts.compiles_per_shape else None,
    }
    return digest_json(parts)[:32]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
