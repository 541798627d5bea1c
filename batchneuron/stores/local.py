"""A run folder on a local disk: write aside, fsync, link, fsync.

`link` fails where the name is taken; `rename` would overwrite it. A file is never opened under its
final name, so whatever is there is whole.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchneuron.disk import explain_disk_error
from batchneuron.errors import OutputConflict, OutputUnwritable
from batchneuron.stores.footer import read_pairs
from batchneuron.stores.scratch import name_scratch, remove_left
from batchneuron.stores.store import Draft, Entry

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

    def verify(self, need_bytes: int) -> None:
        """Whether the folder is there or can be made; a disk that fills up says so when it does."""
        found = next(path for path in (self.root, *self.root.parents) if os.access(path, os.F_OK))
        if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
            raise OutputUnwritable(
                f"cannot write in {found}", str(self.root), "set output.path to a folder you own"
            )

    def prepare(self, wanted: str | None = None) -> None:
        """Make the folders, and remove what dead processes of this host left half-written."""
        try:
            for folder in ("data", _TMP):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            remove_left(self.root / _TMP)
        except OSError as error:
            raise OutputUnwritable(
                f"cannot make the run folder: {error.strerror}",
                str(self.root),
                "set output.path to a folder you own",
            ) from error

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
            source.unlink(missing_ok=True)
        except OSError as error:
            source.unlink(missing_ok=True)
            raise explain_disk_error(error, target, 0) from error
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
            raise explain_disk_error(error, self.root / name, len(content)) from error

    def replace_if(self, name: str, content: bytes, expected: bytes) -> bool:
        """Publish some bytes over what is there, if that is `expected`; a lock dies with its process."""
        lock = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.read(name) != expected:
                return False
            source = self._write_aside(content)
            _fsync(source)
            source.replace(self.root / name)
            _fsync((self.root / name).parent)
        except OSError as error:
            raise explain_disk_error(error, self.root / name, len(content)) from error
        finally:
            os.close(lock)
        return True

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise explain_disk_error(error, self.root / name, 0) from error

    def _write_aside(self, content: bytes) -> Path:
        path = self.scratch_file(uuid.uuid4().hex)
        try:
            path.write_bytes(content)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise explain_disk_error(error, path, len(content)) from error
        return path

    def read(self, name: str) -> bytes | None:
        """The file's bytes, None where there is none."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

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
                entries = [Entry(entry.name, entry.stat().st_size) for entry in found if entry.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(entries, key=lambda entry: entry.name))

    def open_table(self, name: str) -> Path:
        """The file's path."""
        return self.root / name


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
    raise OutputUnwritable(
        f"this file system can neither link nor rename without overwriting ({os.strerror(number)})",
        str(target.parent),
        "a bucket that is mounted as a folder cannot: write to s3:// or to a local disk",
    )


def _fsync(path: Path) -> None:
    """Flush a file or a folder; after a failure the pages are gone, so it is never tried twice."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
