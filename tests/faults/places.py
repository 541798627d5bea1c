"""Where a job's output lies, and how the tests look at it: a folder, or a bucket with a copy as a folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.faults.failpoints import Failpoints

BUCKET = "faults"


class Place(Protocol):
    """Outputs by name, side by side."""

    @property
    def folder(self) -> Path:
        """On this machine: what is written beside an output."""

    def locate(self, name: str) -> str:
        """As `output.path`."""

    def look(self, name: str) -> Path:
        """The output as a folder, as it is now."""

    def watch(self, points: Failpoints) -> None:
        """Stand around what the store is made with."""

    def require_tidy(self) -> None:
        """No scratch file is left of runs that completed."""


@dataclass(frozen=True, slots=True)
class Disk:
    """Folders below one."""

    folder: Path

    def locate(self, name: str) -> str:
        return str(self.folder / name)

    def look(self, name: str) -> Path:
        return self.folder / name

    def watch(self, points: Failpoints) -> None:
        points.watch_ledger()
        points.watch_disk()

    def require_tidy(self) -> None:
        """`require_finished` has looked."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Prefixes of one bucket; TMPDIR is the folder's, for scratch files."""

    folder: Path

    def locate(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}"

    def look(self, name: str) -> Path:
        """A copy, anew each time."""
        copy = self.folder / "copies" / name
        shutil.rmtree(copy, ignore_errors=True)
        (copy / ".batchneuron/tmp").mkdir(parents=True)
        for item in open_bucket().objects.filter(Prefix=f"{name}/"):
            path = copy / item.key.removeprefix(f"{name}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(item.get()["Body"].read())
        return copy

    def watch(self, points: Failpoints) -> None:
        points.watch_requests()

    def require_tidy(self) -> None:
        left = [path for path in self.folder.glob("batchneuron-*/**/*") if path.is_file()]
        assert left == [], left


def open_bucket() -> Any:
    """The bucket, made if it is not there; AWS_ENDPOINT_URL says where."""
    import boto3

    return boto3.resource("s3").create_bucket(Bucket=BUCKET)
