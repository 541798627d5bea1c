"""A run folder on a local disk: write aside, fsync, link, fsync.

`link` fails where the name is taken; `rename` would overwrite it. A file is never opened under its
final name, so whatever is there is whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchneuron.disk import explain_disk_error
from batchneuron.errors import OutputConflict, OutputForbidden, OutputUnfit
from batchneuron.stores.footer import read_pairs
from batchneuron.stores.scratch import name_scratch, remove_left
from batchneuron.stores.store import Draft, Entry

_LEDGER = ".batchneuron"
_TMP = ".batchneuron/tmp"
_LOCK = ".batchneuron/lock"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_RENAME_NOREPLACE = 1  # linux/fs.h
_AT_FDCWD = -100


@dataclass(frozen=True, slots=True)
class LocalStore:
    """Objects as files below one folder."""

    root: Path

    @property
    def location(self) -> str:
        """The folder."""
        return str(self.root)

    def count_throttled(self) -> int:
        """A disk asks for nothing."""
        return 0

    def verify(self, need_bytes: int) -> None:
        """Whether the folder is there or can be made; a disk that fills up says so when it does."""
        found = next(path for path in (self.root, *self.root.parents) if os.access(path, os.F_OK))
        if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
            kind = OutputForbidden if found.is_dir() else OutputUnfit
            raise kind(f"cannot write in {found}", str(self.root), "set output.path to a folder you own")

    def prepare(self, wanted: str | None = None) -> None:
        """Make the folders, and remove what dead processes of this host left half-written."""
        missing = [path for path in self.root.parents if not path.exists()]
        try:
            for folder in ("data", _TMP):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            _fsync_names(self.root / _LEDGER, self.root, self.root.parent, *(path.parent for path in missing))
            remove_left(self.root / _TMP)
        except OSError as error:
            raise explain_disk_error(error, self.root / "data", 0, "make the run folder") from error

    def scratch_file(self, attempt: str) -> Path:
        """A path in the same file system, named after this process."""
        return name_scratch(self.root / _TMP, attempt)

    def create(self, name: str, draft: Draft) -> bool:
        """Flush the file to disk and give it its name, unless the name is taken."""
        return self._publish(name, draft.path)

    def _publish(self, name: str, source: Path) -> bool:
        target = self.root / name
        try:
            _fsync(source)
            created = _link(source, target)
            if created:
                _fsync(target.parent)
        except OSError as error:
            raise explain_disk_error(error, target, 0) from error
        finally:
            _drop(source)
        return created

    def create_bytes(self, name: str, content: bytes) -> bool:
        """Publish some bytes, unless the name is taken."""
        return self._publish(name, self._write_aside(content))

    def replace_bytes(self, name: str, content: bytes) -> None:
        """Publish some bytes over what is there; readers see the old ones or the new ones."""
        source = self._write_aside(content)
        try:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            source.replace(self.root / name)
        except OSError as error:
            _drop(source)
            raise explain_disk_error(error, self.root / name, len(content)) from error

    def replace_if(self, name: str, content: bytes, expected: bytes) -> bool:
        """Publish some bytes over what is there, if that is `expected`; a lock dies with its process."""
        try:
            with (self.root / _LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return self.read(name) == expected and self._replace(name, content)
        except OSError as error:
            raise explain_disk_error(error, self.root / name, len(content)) from error

    def _replace(self, name: str, content: bytes) -> bool:
        source = self._write_aside(content)
        try:
            _fsync(source)
            source.replace(self.root / name)
        except OSError:
            _drop(source)
            raise
        _fsync((self.root / name).parent)
        return True

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise explain_disk_error(error, self.root / name, 0) from error

    def delete_many(self, names: Sequence[str]) -> None:
        """Remove files, one after the other."""
        for name in names:
            self.delete(name)

    def _write_aside(self, content: bytes) -> Path:
        path = self.scratch_file(uuid.uuid4().hex)
        try:
            path.write_bytes(content)
        except OSError as error:
            _drop(path)
            raise explain_disk_error(error, path, len(content)) from error
        return path

    def read(self, name: str) -> bytes | None:
        """The file's bytes, None where there is none."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explain_disk_error(error, self.root / name, 0, "read") from error

    def read_many(self, names: Sequence[str]) -> tuple[bytes | None, ...]:
        """The bytes of each file, one after the other: a disk answers at once."""
        return tuple(self.read(name) for name in names)

    def read_tags(self, name: str) -> Mapping[str, str]:
        """Nothing: a file is its bytes."""
        return {}

    def read_sha256(self, name: str) -> str:
        """The file's digest; it is read once, in pieces."""
        try:
            with (self.root / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise OutputConflict(f"cannot be read: {error.strerror}", str(self.root / name)) from error

    def read_footer(self, name: str) -> Mapping[str, str]:
        """The Parquet file's key-value metadata, with `num_rows`."""
        return read_pairs(self.root / name, str(self.root / name))

    def list(self, folder: str) -> tuple[Entry, ...]:
        """Files directly in a folder, by name."""
        try:
            with os.scandir(self.root / folder) as found:
                entries = [described for each in found if (described := _describe(each)) is not None]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise explain_disk_error(error, self.root / folder / "*", 0, "read") from error
        return tuple(sorted(entries, key=lambda entry: entry.name))

    def open_table(self, name: str) -> Path:
        """The file's path."""
        return self.root / name


def _describe(entry: os.DirEntry[str]) -> Entry | None:
    """What a listing says of a file; None: it is none, or has gone meanwhile."""
    try:
        found = entry.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Entry(entry.name, found.st_size, max(0.0, time.time() - found.st_mtime))


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        # NFS sends again what got no answer, and then meets its own link.
        return source.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_if_absent(source, target)
    return True


def _rename_if_absent(source: Path, target: Path) -> bool:
    """For file systems without hard links; the kernel refuses to overwrite."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        return False
    raise OutputUnfit(
        f"this file system can neither link nor rename without overwriting ({os.strerror(number)})",
        str(target.parent),
        "a bucket that is mounted as a folder cannot: write to s3:// or to a local disk",
    )


def _fsync_names(*folders: Path) -> None:
    """Flush the names in some folders: a part is no safer than the names of the folders above it."""
    for folder in folders:
        with contextlib.suppress(PermissionError):  # one that is not ours
            _fsync(folder)


def _drop(path: Path) -> None:
    """Remove a file that came to nothing; on a disk that refuses that too, the next run does it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """Flush a file or a folder; after a failure the pages are gone, so it is never tried twice."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
