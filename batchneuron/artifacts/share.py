"""Share: a folder or a bucket where machines find what others compiled.

Nothing is ever loaded from there: an entry is copied into the user's own cache, verified, and published like
one that was compiled here. A program is code, so who can write there can run code here; a lock file
pins the entries that are believed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from batchneuron.artifacts.entry import INDEX, Entry, find_flaw, hash_index, parse_index, read_entry
from batchneuron.artifacts.local import Artifact
from batchneuron.artifacts.publish import make_scratch, publish
from batchneuron.errors import BackendError
from batchneuron.stores.s3_client import S3

_PINS = TypeAdapter(dict[str, str])


class Unreachable(Exception):
    """The shared store cannot be asked now; the job can do without it."""


class Origin(Protocol):
    """Somewhere that entries are fetched from."""

    @property
    def location(self) -> str:
        """Where it is, as a user writes it."""

    def read_index(self, key: str) -> bytes | None:
        """An entry's artifact.json, None where it has no such entry.

        Raises:
            Unreachable: it does not answer now.
            BackendError: it cannot be used as it is named.
        """

    def download(self, entry: Entry, folder: Path) -> None:
        """Write an entry's files into a folder, without its artifact.json; raises like `read_index`."""


class Share(Origin, Protocol):
    """Somewhere that entries are kept for other machines."""

    def list_keys(self) -> frozenset[str]:
        """Names of its entries, not looked into; raises like `read_index`."""

    def upload(self, entry: Entry, folder: Path, *, replace: bool) -> bool:
        """Keep a copy of an entry: True, or False if there is one of that name; raises like `read_index`.

        `replace`: what is there is broken.
        """


@dataclass(frozen=True, slots=True)
class FolderShare:
    """A folder that machines have in common."""

    root: Path

    @property
    def location(self) -> str:
        """The folder."""
        return str(self.root)

    def list_keys(self) -> frozenset[str]:
        """Names of folders with an artifact.json."""
        try:
            return frozenset(index.parent.name for index in self.root.glob(f"*/{INDEX}"))
        except OSError as error:
            raise Unreachable(error.strerror) from error

    def read_index(self, key: str) -> bytes | None:
        """An entry's artifact.json."""
        try:
            return (self.root / key / INDEX).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unreachable(error.strerror) from error

    def download(self, entry: Entry, folder: Path) -> None:
        """Copy an entry's files."""
        try:
            _copy(entry, self.root / entry.key, folder)
        except OSError as error:
            raise Unreachable(error.strerror) from error

    def upload(self, entry: Entry, folder: Path, *, replace: bool) -> bool:
        """Copy beside its place, then rename; a broken entry there makes room by itself."""
        target, scratch = self.root / entry.key, None
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if target.exists() and not replace:
                return False
            scratch = make_scratch(target)
            _copy(entry, folder, scratch)
            shutil.copyfile(folder / INDEX, scratch / INDEX)
            scratch.chmod(0o755)
            return publish(scratch, target)
        except OSError as error:
            raise Unreachable(error.strerror) from error
        finally:
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)


def _copy(entry: Entry, source: Path, target: Path) -> None:
    for name in entry.files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def open_share(location: str) -> Share:
    """The shared store of that location; nothing is asked of it yet.

    Raises:
        BackendError: there is no such kind of store, or boto3 is missing.
    """
    if location.startswith(S3):
        from batchneuron.artifacts.s3_share import open_s3_share

        return open_s3_share(location)
    scheme, found, _ = location.partition("://")
    if found and scheme != "file":
        raise BackendError(
            f"'{scheme}://' is no place for artifacts",
            "backend.artifacts",
            "name a folder or s3://bucket/prefix",
        )
    path = unquote(urlsplit(location).path) if found else location
    return FolderShare(Path(path).expanduser().absolute())


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of asking a shared store for one entry."""

    is_here: bool
    is_broken: bool = False
    """It has the entry, and it is damaged there."""
    note: str = ""
    """Why it was not taken; '' where there was none."""


def fetch(share: Origin, artifact: Artifact, pins: Mapping[str, str] | None) -> Fetched:
    """Copy an entry into the local cache, if the share has it and it is what it says. Needs the build lock.

    `pins`: SHA-256 of the artifact.json that is believed, by key; None: whoever can write there is believed.

    Raises:
        Unreachable: the store does not answer now.
        BackendError: it cannot be used as it is named.
    """
    content = share.read_index(artifact.key)
    if content is None:
        return Fetched(is_here=False)
    where = f"{share.location}/{artifact.key}"
    scratch = make_scratch(artifact.folder)
    try:
        (scratch / INDEX).write_bytes(content)
        if pins is not None and pins.get(artifact.key) != hash_index(scratch):
            return Fetched(is_here=False, note=f"{where}: not the entry that the lock file names: not used")
        flaw = _fill(share, content, scratch, artifact.key)
        if flaw is not None:
            return Fetched(is_here=False, is_broken=True, note=f"{where}: {flaw}: not used")
        publish(scratch, artifact.folder)
        return Fetched(is_here=True)
    except OSError as error:
        raise BackendError(
            f"cannot write the artifact cache: {error.strerror}", str(artifact.folder)
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fill(share: Origin, content: bytes, scratch: Path, key: str) -> str | None:
    """Download what an artifact.json names; gives what is wrong with it."""
    try:
        entry = parse_index(content, share.location)
    except BackendError as error:
        return error.what
    if entry.key != key:
        return "it is the entry of another program"
    share.download(entry, scratch)
    return find_flaw(scratch, key)


def offer(share: Share, artifact: Artifact, *, replace: bool) -> bool:
    """Put a local entry into a shared store: True, or False if it has one already; raises like `fetch`."""
    return share.upload(read_entry(artifact.folder), artifact.folder, replace=replace)


def is_same(share: Share, artifact: Artifact) -> bool:
    """Whether a shared store's entry is this very one, byte for byte; raises like `fetch`."""
    return share.read_index(artifact.key) == (artifact.folder / INDEX).read_bytes()


def read_pins(path: Path) -> dict[str, str]:
    """The lock file: SHA-256 of artifact.json by key.

    Raises:
        BackendError: it is not there, or no lock file.
    """
    try:
        return _PINS.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON object of key and SHA-256"
        raise BackendError(
            f"cannot read the lock file: {reason}", str(path), "write it with batchneuron compile --lock"
        ) from error


def write_pins(path: Path, artifacts: Sequence[Artifact]) -> None:
    """Add artifacts to a lock file; what else it names stays.

    Raises:
        BackendError: it cannot be written.
    """
    pins = read_pins(path) if path.exists() else {}
    pins |= {artifact.key: hash_index(artifact.folder) for artifact in artifacts}
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(json.dumps(pins, indent=2, sort_keys=True) + "\n")
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        raise BackendError(f"cannot write the lock file: {error.strerror}", str(path)) from error
