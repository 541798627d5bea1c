"""The run folder: which files there are, what they are called, and what they prove.

    OUT/data/part-00042_of_00128-<run8>.parquet    a part: if it exists, it is committed
    OUT/.batchneuron/run.json                      what this folder is for; created once
    OUT/.batchneuron/plan-<sha16>.json.zst         the plan, by its content
    OUT/.batchneuron/progress/<slot>.json          what a runner has done so far; advisory
    OUT/.batchneuron/tmp/                          files being written
    OUT/.batchneuron/manifest.json                 every part and its digest; created last

The only module that knows these names. Resume is the list of parts subtracted from the plan.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
from pydantic import JsonValue, TypeAdapter, ValidationError

from batchneuron.errors import OutputConflict
from batchneuron.events import PartDone
from batchneuron.fingerprint import PROTOCOL, Fingerprint
from batchneuron.plan import Plan, Shard, plan_from_json, plan_to_json
from batchneuron.stores.store import Store
from batchneuron.write import WrittenPart

_RUN = ".batchneuron/run.json"
_MANIFEST = ".batchneuron/manifest.json"
_PROGRESS = ".batchneuron/progress"
_PART = re.compile(r"part-(\d+)_of_(\d+)-([0-9a-f]{8})\.parquet")
FINGERPRINT_KEY = "batchneuron.fingerprint"
_Record = TypeVar("_Record")


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


@dataclass(frozen=True, slots=True)
class Progress:
    """What one runner has committed, and how fast; a later runner has its own."""

    slot: str
    elapsed_s: float
    parts: tuple[PartDone, ...]


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


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one output location."""

    store: Store

    def read_run(self) -> RunRecord | None:
        """What the folder is for, None while it is for nothing.

        Raises:
            OutputConflict: it was made by a version with another protocol.
        """
        content = self.store.read(_RUN)
        if content is None:
            return None
        record = self._parse(RunRecord, _RUN, content)
        if record.protocol != PROTOCOL:
            raise OutputConflict(
                f"written with protocol {record.protocol}, this version speaks {PROTOCOL}",
                self.store.location,
            )
        return record

    def read_plan(self, record: RunRecord) -> Plan:
        """The plan the run was opened with.

        Raises:
            OutputConflict: the file is gone or is not that plan.
        """
        content = self.store.read(f".batchneuron/{record.plan}")
        if content is not None:
            with contextlib.suppress(OSError):
                text = pa.input_stream(pa.BufferReader(content), compression="zstd").read()
                if _plan_name(text) == record.plan:
                    return plan_from_json(text)
        raise OutputConflict(
            "the plan is missing or damaged", f"{self.store.location}/.batchneuron/{record.plan}"
        )

    def create_run(self, fingerprint: Fingerprint, plan: Plan, spec: Mapping[str, JsonValue]) -> RunRecord:
        """Claim the folder: plan first, then `run.json`. Whoever comes second gets the first's record."""
        self.store.prepare()
        record = draft_run(fingerprint, plan, spec)
        buffer = pa.BufferOutputStream()
        with pa.CompressedOutputStream(buffer, "zstd") as stream:
            stream.write(plan_to_json(plan))
        self.store.create_bytes(f".batchneuron/{record.plan}", buffer.getvalue().to_pybytes())
        if self.store.create_bytes(_RUN, TypeAdapter(RunRecord).dump_json(record, indent=2)):
            return record
        return self.read_run() or record

    def list_committed(self, record: RunRecord) -> frozenset[int]:
        """Shards whose part exists."""
        matches = (_PART.fullmatch(entry.name) for entry in self.store.list("data"))
        return frozenset(int(match[1]) for match in matches if match and match[3] == record.run8)

    def list_strays(self, record: RunRecord) -> tuple[str, ...]:
        """Files in `data/` that are not parts of this run."""
        ours = re.compile(rf"part-\d+_of_{record.shards:05d}-{record.run8}\.parquet")
        return tuple(entry.name for entry in self.store.list("data") if not ours.fullmatch(entry.name))

    def commit_part(self, record: RunRecord, shard: Shard, part: WrittenPart) -> bool:
        """Publish a part: True, or False when another runner of the same run was first.

        Raises:
            OutputConflict: something else stands under the part's name.
        """
        name = part_name(record, shard.index)
        if self.store.create(name, part.path):
            return True
        self._read_own_footer(record, shard)
        return False

    def _read_own_footer(self, record: RunRecord, shard: Shard) -> Mapping[str, str]:
        """The footer of a shard's part, once it has said that it is that part.

        Raises:
            OutputConflict: something else stands under the part's name.
        """
        name = part_name(record, shard.index)
        footer = self.store.read_footer(name)
        if footer.get(FINGERPRINT_KEY) != record.fingerprint or int(footer["num_rows"]) != shard.rows:
            raise OutputConflict(
                "a file that is not of this run stands where a part belongs",
                f"{self.store.location}/{name}",
                "move it away and run again",
            )
        return footer

    def write_progress(self, progress: Progress) -> None:
        """Say what this runner has done so far."""
        self.store.replace_bytes(
            f"{_PROGRESS}/{progress.slot}.json", TypeAdapter(Progress).dump_json(progress)
        )

    def read_progress(self) -> tuple[Progress, ...]:
        """What every runner said it has done; files that a power cut damaged are left out."""
        told: list[Progress] = []
        for entry in self.store.list(_PROGRESS):
            content = self.store.read(f"{_PROGRESS}/{entry.name}")
            with contextlib.suppress(ValueError):
                told.append(TypeAdapter(Progress).validate_json(content or b""))
        return tuple(told)

    def write_manifest(self, record: RunRecord, plan: Plan, done: Mapping[int, PartDone]) -> Manifest:
        """The manifest of a run whose parts all exist; parts nobody reported are read and hashed.

        It is created, and racing finishers create the same bytes.
        """
        sizes = {entry.name: entry.size_bytes for entry in self.store.list("data")}
        parts = []
        for shard in plan.shards:
            name = part_name(record, shard.index).removeprefix("data/")
            report = done.get(shard.index)
            if report is not None and report.created:
                rejected, sha256 = report.rejected, report.sha256
            else:
                rejected, sha256 = self._inspect(record, shard)
            parts.append(ManifestPart(name, shard.row_lo, shard.row_hi, rejected, sizes[name], sha256))
        manifest = Manifest(record.fingerprint, plan.rows, sum(part.rejected for part in parts), tuple(parts))
        content = TypeAdapter(Manifest).dump_json(manifest, indent=2)
        if not self.store.create_bytes(_MANIFEST, content) and self.store.read(_MANIFEST) != content:
            # A part was lost and made again, so what an earlier finisher wrote is not true any more.
            self.store.replace_bytes(_MANIFEST, content)
        return manifest

    def _inspect(self, record: RunRecord, shard: Shard) -> tuple[int, str]:
        """Rejected rows and SHA-256 of a part that an earlier, killed runner committed."""
        footer = self._read_own_footer(record, shard)
        content = self.store.read(part_name(record, shard.index)) or b""
        return int(footer["batchneuron.rejected"]), hashlib.sha256(content).hexdigest()

    def read_manifest(self) -> Manifest | None:
        """The manifest, None while the run is not finished."""
        content = self.store.read(_MANIFEST)
        return None if content is None else self._parse(Manifest, _MANIFEST, content)

    def _parse(self, kind: type[_Record], name: str, content: bytes) -> _Record:
        try:
            return TypeAdapter(kind).validate_json(content)
        except ValidationError as error:
            raise OutputConflict(
                "damaged: it is not what batchneuron wrote",
                f"{self.store.location}/{name}",
                "restore it, or choose another output.path",
            ) from error


def draft_run(fingerprint: Fingerprint, plan: Plan, spec: Mapping[str, JsonValue]) -> RunRecord:
    """What `run.json` would say; nothing is written."""
    name = _plan_name(plan_to_json(plan))
    whole = Fingerprint({**fingerprint.fields, "plan": name})
    return RunRecord(
        fingerprint=whole.digest,
        run8=whole.run8(generation=1),
        fields=fingerprint.fields,
        plan=name,
        shards=len(plan.shards),
        rows=plan.rows,
        spec=spec,
    )


def part_name(record: RunRecord, index: int) -> str:
    """Where a shard's part goes, relative to the run folder."""
    return f"data/part-{index:05d}_of_{record.shards:05d}-{record.run8}.parquet"


def _plan_name(text: bytes) -> str:
    return f"plan-{hashlib.sha256(text).hexdigest()[:16]}.json.zst"
