"""artifact.json: what an entry is, how it was made, and the SHA-256 of each of its files.

The key is the digest of `identity`, so an entry under another's name is seen as altered. Files that are
not listed are passed over: a runtime may keep its own beside those that it loads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import JsonValue, TypeAdapter, ValidationError

from batchneuron.artifacts.identity import Identity, name_identity
from batchneuron.errors import BackendError
from batchneuron.planning.fingerprint import digest_json

INDEX = "artifact.json"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it was published."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class About:
    """How an entry was made; not part of its name."""

    model_id: str
    model_commit: str | None
    batchneuron: str
    """Version that compiled it."""
    created: str
    """UTC, ISO 8601."""
    compile_s: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact.json."""

    identity: dict[str, JsonValue]
    about: About
    files: dict[str, FileRecord]
    """By path within the entry, with forward slashes."""

    @property
    def key(self) -> str:
        """The name of the entry's folder."""
        return name_identity(self.identity)

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(record.size_bytes for record in self.files.values())


_ENTRY = TypeAdapter(Entry)


def write_index(folder: Path, identity: Identity, about: About) -> None:
    """Hash all files of a folder and write its artifact.json, which must not be there yet."""
    files = {
        path.relative_to(folder).as_posix(): FileRecord(hash_file(path), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    entry = Entry(dict(identity), about, files)
    (folder / INDEX).write_text(json.dumps(_ENTRY.dump_python(entry, mode="json"), indent=2) + "\n")


def parse_index(content: bytes, where: str) -> Entry:
    """The entry that an artifact.json describes.

    Raises:
        BackendError: it is none, or it names a file outside of its folder.
    """
    try:
        entry = _ENTRY.validate_json(content)
    except ValidationError as error:
        raise BackendError(f"{INDEX} cannot be read", where) from error
    for name in entry.files:
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or "\\" in name or PurePosixPath(name).is_absolute() or name == INDEX:
            raise BackendError(f"{INDEX} names a file that is not its own: {name!r}", where)
    return entry


def read_entry(folder: Path) -> Entry:
    """The entry in a folder, its files not looked at.

    Raises:
        BackendError: there is none that can be read.
    """
    try:
        return parse_index((folder / INDEX).read_bytes(), str(folder))
    except OSError as error:
        raise BackendError(f"{INDEX} cannot be read: {error.strerror}", str(folder)) from error


def find_flaw(folder: Path, key: str | None = None) -> str | None:
    """What is wrong with an entry, in a few words; None: every file has the bytes it was published with.

    `key`: what it should be the entry of; by default the folder's name.
    """
    try:
        entry = read_entry(folder)
    except BackendError as error:
        return error.what
    if entry.key != (key or folder.name):
        return "it is the entry of another program"
    for name, record in entry.files.items():
        try:
            size = (folder / name).stat().st_size
            if size != record.size_bytes:
                return f"{name} has {size} bytes, and was published with {record.size_bytes}"
            if hash_file(folder / name) != record.sha256:
                return f"{name} has been altered"
        except FileNotFoundError:
            return f"{name} is gone"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def is_intact(folder: Path) -> bool:
    """Whether every file of the entry has the bytes it was published with."""
    return find_flaw(folder) is None


def seal_entry(folder: Path) -> str:
    """A digest of names, sizes and times of an entry's files: cheap, and another one after any write.

    Raises:
        BackendError: a file is gone.
    """
    try:
        stats = {name: (folder / name).stat() for name in read_entry(folder).files}
    except OSError as error:
        raise BackendError(f"a file cannot be read: {error.strerror}", str(folder)) from error
    return digest_json({name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()})


def hash_file(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_index(folder: Path) -> str:
    """SHA-256 of an entry's artifact.json, and so of all that is in it."""
    return hash_file(folder / INDEX)


def list_facts(entry: Entry) -> Mapping[str, str]:
    """What people want to know of an entry, as short texts."""
    identity = entry.identity
    return {
        "task": str(identity.get("task")),
        "model": entry.about.model_id,
        "shape": str(identity.get("shape") or "any"),
        "backend": f"{identity.get('kind')} {identity.get('target')}",
    }
