"""The local disk beside a bucket: files being written, and finished ones that S3 did not take.

    <temporary folder>/batchneuron-<uid>/<host>.<pid>.<attempt>.inprogress
    <temporary folder>/batchneuron-<uid>/kept/<run folder>/<name>.<sha256>

A part is minutes of a device's work, so one that cannot be sent is kept, and sent by the next run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from batchneuron.disk import explain_disk_error
from batchneuron.errors import OutputUnfit, OutputUnwritable
from batchneuron.stores.scratch import name_scratch, remove_left
from batchneuron.stores.store import Draft

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class S3Scratch:
    """This user's scratch files for one run folder."""

    location: str
    """The run folder."""

    @property
    def folder(self) -> Path:
        """Where files are written; TMPDIR moves it."""
        return Path(tempfile.gettempdir()) / f"batchneuron-{os.getuid()}"

    @property
    def _kept(self) -> Path:
        return self.folder / "kept" / hashlib.sha256(self.location.encode()).hexdigest()[:16]

    def require_room(self, need_bytes: int) -> None:
        """Hold the free space against what is needed.

        Raises:
            OutputUnwritable: it is less.
        """
        self._make()
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < need_bytes:
            raise OutputUnwritable(
                f"parts are written here before they go to S3: {need_bytes // _MIB} MiB are needed, "
                f"{free_bytes // _MIB} MiB are free",
                str(self.folder),
                "set TMPDIR to a folder on a larger disk, or use fewer workers or smaller output.shard_rows",
            )

    def prepare(self) -> None:
        """Make the folder, and remove what dead processes of this host left half-written."""
        self._make()
        remove_left(self.folder)

    def name_file(self, attempt: str) -> Path:
        """A path for a new file."""
        return name_scratch(self.folder, attempt)

    def keep(self, name: str, draft: Draft) -> Path:
        """Set a file aside for the next run of the same job; where it is now."""
        self._kept.mkdir(parents=True, exist_ok=True)
        return draft.path.rename(self._kept / f"{quote(name, safe='')}.{draft.sha256}")

    def take_kept(self, wanted: str) -> Iterator[tuple[str, Draft]]:
        """Name and file of what was kept, if this is in the name; the rest and what is damaged is removed."""
        for path in sorted(self._kept.glob("*")):
            name, _, sha256 = path.name.rpartition(".")
            claimed = self.name_file(sha256)
            with contextlib.suppress(FileNotFoundError):  # another run was first
                path.rename(claimed)
                with claimed.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if found == sha256 and wanted in name:
                    yield unquote(name), Draft(claimed, sha256)
                claimed.unlink(missing_ok=True)

    def _make(self) -> None:
        """Make the folder, which must be this user's: others may write beside it.

        Raises:
            OutputUnwritable: it cannot be made.
            OutputUnfit: it is somebody else's.
        """
        try:
            folder = self.folder
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.lstat()
        except OSError as error:
            told = explain_disk_error(error, Path(error.filename or "/tmp/x"), 0)
            hint = "parts are written there before they go to S3: set TMPDIR to a folder that has room"
            raise type(told)(told.what, told.where, hint) from error
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise OutputUnfit("not a folder of yours", str(folder), "remove it, or set TMPDIR")
