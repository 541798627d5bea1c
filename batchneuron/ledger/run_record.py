"""What the files of a run folder say, one record per kind of file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from batchneuron.planning.fingerprint import PROTOCOL
from batchneuron.programs.agreement import Parity
from batchneuron.sources.source import SkippedFile
from batchneuron.workers.events import PartDone

Kind = Literal["part", "probe", "progress", "lease", "scratch"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What `run.json` says: everything needed to resume, and to refuse what does not belong."""

    fingerprint: str
    run8: str
    fields: Mapping[str, JsonValue]
    plan: str
    """Name of the plan's file."""
    shards: int
    rows: int
    spec: Mapping[str, JsonValue]
    protocol: int = PROTOCOL
    generation: int = 1
    parity: Parity | None = None
    """How the programs it was opened with agree with the reference; None: opened by an older version."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What one runner has committed, and how fast; a later runner has its own."""

    slot: str
    elapsed_s: float
    parts: tuple[PartDone, ...]
    restarts: int = 0
    """Workers that died in the middle of their work."""
    isolated: int = 0
    """Rows that were found to kill workers."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one runner has in hand; its content changes for as long as the runner lives."""

    slot: str
    beat: int
    """Counted up by the runner."""
    shards: tuple[int, ...]
    host: str
    pid: int
    name: str = ""
    """What its scheduler calls it: `3/8, attempt 2`; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that no run needs any more."""

    kind: Kind
    name: str
    """Relative to the run folder."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """One part as the manifest lists it."""

    name: str
    row_lo: int
    row_hi: int
    rejected: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All parts of a finished run. No clocks and no host names: racing finishers write the same bytes."""

    fingerprint: str
    rows: int
    rejected: int
    parts: tuple[ManifestPart, ...]
    parity: Parity | None = None
    generation: int = 1
    skipped: tuple[SkippedFile, ...] = ()
    """Damaged input files that the run did without."""
