"""Adopt: the version of a compiler that is not here, from programs that were compiled elsewhere.

A program's name has the compiler's version in it. A machine that only runs programs has none to tell, so it
takes the version of those that lie ready and equal its own in all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from batchneuron.artifacts.entry import parse_index
from batchneuron.artifacts.exchange import Sharing, list_shared_keys
from batchneuron.artifacts.identity import Identity, identify
from batchneuron.artifacts.local import default_cache, iter_entries
from batchneuron.artifacts.share import Share, Unreachable, open_share
from batchneuron.backends import open_backend
from batchneuron.backends.backend import Backend, CompileRequest
from batchneuron.errors import BackendError
from batchneuron.planning.shapes import Shape
from batchneuron.spec.sections import JobSpec

_READS_AT_ONCE = 16


def adopt_compiler(
    backend: Backend, spec: JobSpec, request: CompileRequest, caches: Sequence[Path] | None = None
) -> Backend:
    """The backend with the version of programs that lie ready.

    As it is where it has a compiler, or where there are no such programs.

    Args:
        backend: as it was opened.
        spec: the job.
        request: the program.
        caches: where to look, beside the shared store of the spec; None: in the user's own.
    """
    if backend.facts.missing_compiler is None:
        return backend
    sharing = Sharing(spec.backend.artifacts, spec.backend.artifacts_lock)
    version = find_compiler_version(backend, request, caches or (default_cache(),), sharing)
    return backend if version is None else open_backend(spec, compiler_version=version)


def find_compiler_version(
    backend: Backend, request: CompileRequest, caches: Sequence[Path], sharing: Sharing
) -> str | None:
    """The newest version that compiled this very program for some shape; None where there is none.

    A store that cannot be asked has none. With a lock file only what it names counts.
    """
    name = backend.facts.missing_compiler
    if name is None:
        return None
    wished = _strip(identify(backend, request, Shape(1, 1)), name)
    local = [entry for cache in caches for entry in iter_entries(cache)]
    known = {entry.key for entry in local}
    identities = [entry.identity for entry in local] + _read_shared(sharing, known)
    found = (_read_version(identity, name) for identity in identities if _strip(identity, name) == wished)
    return max((version for version in found if version), key=_list_numbers, default=None)


def _read_shared(sharing: Sharing, known: Iterable[str]) -> list[Identity]:
    """What the shared store's entries are, but for those that are known."""
    keys = sorted(list_shared_keys(sharing) - set(known))
    if sharing.location is None or not keys:
        return []
    share = open_share(sharing.location)
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        found = pool.map(lambda key: _read_identity(share, key), keys)
        return [identity for identity in found if identity is not None]


def _read_identity(share: Share, key: str) -> Identity | None:
    """None where the entry cannot be read, or is that of another program than its name says."""
    try:
        content = share.read_index(key)
        entry = None if content is None else parse_index(content, share.location)
    except (Unreachable, BackendError):
        return None
    return entry.identity if entry is not None and entry.key == key else None


def _strip(identity: Identity, compiler: str) -> Identity:
    """All but the shape and the compiler's version."""
    versions = identity.get("versions")
    rest = {name: value for name, value in identity.items() if name not in ("shape", "versions")}
    if isinstance(versions, dict):
        rest["versions"] = {name: number for name, number in versions.items() if name != compiler}
    return rest


def _read_version(identity: Identity, compiler: str) -> str | None:
    versions = identity.get("versions")
    version = versions.get(compiler) if isinstance(versions, dict) else None
    return version if isinstance(version, str) else None


def _list_numbers(version: str) -> tuple[list[int], str]:
    """What versions are ordered by; equal ones by their text, so that every machine chooses alike."""
    return [int(number) for number in re.findall(r"\d+", version)], version
