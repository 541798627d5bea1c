"""The Store seam: where a run's files live. Create-if-absent, list, read.

Names are relative, with forward slashes. `create` is the commit of everything in this project: it
either makes the whole object appear under its name, or finds that there is one already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object."""

    name: str
    size_bytes: int
    age_s: float = field(default=0.0, compare=False)
    """Seconds since it was written, by the store's own clock, when it was listed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A finished local file that waits to be published."""

    path: Path
    sha256: str
    """64 hex digits, of what was written: a store that can verifies what arrives against it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """ASCII; stands beside the object where the store can. `attempt` tells one writer from another."""


class Store(Protocol):
    """A folder of objects that appear whole or not at all."""

    @property
    def location(self) -> str:
        """Where it is, as a user writes it."""

    def count_throttled(self) -> int:
        """Answers until now that asked to slow down; 0 where nobody ever does."""

    def verify(self, need_bytes: int) -> None:
        """Find out, before anything is computed, whether a run can be written here.

        Args:
            need_bytes: what the files that are written at one time may take on this host's disk.

        Raises:
            OutputUnwritable: it cannot.
        """

    def prepare(self, wanted: str | None = None) -> None:
        """Make it ready to be written.

        Args:
            wanted: publish what an earlier process on this host finished and could not publish, if this text
                is in its name, and drop the rest; None: leave it.

        Raises:
            OutputUnwritable: it cannot be.
        """

    def scratch_file(self, attempt: str) -> Path:
        """A local path to write a new object to, before `create` publishes it."""

    def create(self, name: str, draft: Draft) -> bool:
        """Publish a local file under a name, and remove it: True, or False if the name is taken.

        Raises:
            OutputUnwritable: full, forbidden, or not answering.
            WorkerFailed: the bytes may not have reached the disk; the file must be written again.
        """

    def create_bytes(self, name: str, content: bytes) -> bool:
        """Publish some bytes under a name: True, or False if the name is taken."""

    def replace_bytes(self, name: str, content: bytes) -> None:
        """Publish some bytes under a name, over what is there; for advisory files only."""

    def replace_if(self, name: str, content: bytes, expected: bytes) -> bool:
        """Publish some bytes over what is there, if that still is `expected`: whether it was.

        Of several callers that expect the same bytes, one is told True. A local store compares under a lock;
        S3 compares the object's bytes and puts with If-Match on the ETag that they came with.
        """

    def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""

    def delete_many(self, names: Sequence[str]) -> None:
        """Remove objects, a thousand with one request where the store can.

        Raises:
            OutputUnwritable: one cannot be removed; those after it are left.
        """

    def read(self, name: str) -> bytes | None:
        """The object's bytes, None where there is none."""

    def read_many(self, names: Sequence[str]) -> tuple[bytes | None, ...]:
        """The bytes of each object, None where there is none; several at once where that helps."""

    def read_tags(self, name: str) -> Mapping[str, str]:
        """What an object was published with, and `sha256`; nothing where the store keeps none."""

    def read_sha256(self, name: str) -> str:
        """SHA-256 of an object, 64 hex digits.

        Raises:
            OutputConflict: it is not there.
        """

    def read_footer(self, name: str) -> Mapping[str, str]:
        """The key-value metadata of a Parquet object, with `num_rows` added.

        Raises:
            OutputConflict: it is not a readable Parquet file.
        """

    def list(self, folder: str) -> tuple[Entry, ...]:
        """Objects directly in a folder, by name; none where there is no such folder."""

    def open_table(self, name: str) -> Any:
        """What `pyarrow.parquet.ParquetFile` opens to read the object."""
