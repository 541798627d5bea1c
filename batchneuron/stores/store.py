"""The Store seam: where a run's files live. Create-if-absent, list, read.

Names are relative, with forward slashes. `create` is the commit of everything in this project: it
either makes the whole object appear under its name, or finds that there is one already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored object."""

    name: str
    size_bytes: int


class Store(Protocol):
    """A folder of objects that appear whole or not at all."""

    @property
    def location(self) -> str:
        """Where it is, as a user writes it."""

    def prepare(self) -> None:
        """Make it ready to be written.

        Raises:
            OutputUnwritable: it cannot be.
        """

    def scratch_file(self, attempt: str) -> Path:
        """A local path to write a new object to, before `create` publishes it."""

    def create(self, name: str, source: Path) -> bool:
        """Publish a local file under a name, and remove it: True, or False if the name is taken.

        Raises:
            OutputUnwritable: full, or forbidden.
            WorkerFailed: the bytes may not have reached the disk; the file must be written again.
        """

    def create_bytes(self, name: str, content: bytes) -> bool:
        """Publish some bytes under a name: True, or False if the name is taken."""

    def replace_bytes(self, name: str, content: bytes) -> None:
        """Publish some bytes under a name, over what is there; for advisory files only."""

    def read(self, name: str) -> bytes | None:
        """The object's bytes, None where there is none."""

    def read_footer(self, name: str) -> Mapping[str, str]:
        """The key-value metadata of a Parquet object, with `num_rows` added.

        Raises:
            OutputConflict: it is not a readable Parquet file.
        """

    def list(self, folder: str) -> tuple[Entry, ...]:
        """Objects directly in a folder, by name; none where there is no such folder."""

    def open_table(self, name: str) -> Path | str:
        """What `pyarrow.parquet.ParquetFile` opens to read the object."""
