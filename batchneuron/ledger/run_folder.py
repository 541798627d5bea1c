"""The run folder: what its files prove, and how they come to be.

Resume is the list of parts subtracted from the plan. `run_names.py` has the map.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from batchneuron.errors import OutputConflict
from batchneuron.ledger.plan_file import read_text, write_text
from batchneuron.ledger.run_names import (
    DATA,
    LEASES,
    LEDGER,
    MANIFEST,
    PROGRESS,
    RUN,
    find_shard,
    find_slot,
    is_spec,
    is_told,
    part_name,
    plan_name,
    spec_name,
    tell_removal,
    told_name,
)
from batchneuron.ledger.run_record import Lease, Leftover, Manifest, Progress, RunRecord
from batchneuron.planning.fingerprint import PROTOCOL, Fingerprint
from batchneuron.planning.plan import Plan, Shard, plan_from_json, plan_to_json
from batchneuron.programs.agreement import Parity
from batchneuron.stages.write import WrittenPart
from batchneuron.stores.store import Draft, Entry, Store

_LEAST_BYTES = 12  # magic, length of the footer, magic
_OURS = "batchneuron."
FINGERPRINT_KEY = f"{_OURS}fingerprint"
REJECTED_KEY = f"{_OURS}rejected"
SHARD_KEY = f"{_OURS}shard"
ROWS_KEY = f"{_OURS}rows"
_TAGS = (FINGERPRINT_KEY, REJECTED_KEY, f"{_OURS}attempt")
_Record = TypeVar("_Record")
_adapt: Callable[[Any], TypeAdapter[Any]] = cache(
    TypeAdapter
)  # building one takes longer than reading a file


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one output location."""

    store: Store

    def read_run(self) -> RunRecord | None:
        """What the folder is for, None while it is for nothing.

        Raises:
            OutputConflict: it was made by a version with another protocol.
        """
        content = self.store.read(RUN)
        if content is None:
            return None
        record = self._parse(RunRecord, RUN, content)
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
        return self._read_plan(record.plan, "restore it, or begin anew with `run --overwrite`")

    def has_plan(self, record: RunRecord) -> bool:
        """Whether the plan the run was opened with is there and whole."""
        return read_text(self.store, record.plan) is not None

    def read_frozen(self, name: str) -> Plan:
        """The plan of that name, which was put here for a run that is to begin.

        Raises:
            OutputConflict: the file is gone or is not that plan.
        """
        return self._read_plan(name, "submit the job again")

    def _read_plan(self, name: str, hint: str) -> Plan:
        text = read_text(self.store, name)
        if text is None:
            where = f"{self.store.location}/{LEDGER}/{name}"
            raise OutputConflict("the plan is missing or damaged", where, hint)
        return plan_from_json(text)

    def freeze(self, plan: Plan, spec: bytes) -> tuple[str, str]:
        """Put a spec and a plan beside what will be the output: the names of their files in the ledger.

        The folder is not claimed by that; the first runner claims it.
        """
        self.store.prepare()
        self.store.create_bytes(f"{LEDGER}/{spec_name(spec)}", spec)
        return spec_name(spec), self._write_plan(plan_to_json(plan))

    def list_frozen(self) -> tuple[str, ...]:
        """Specs that were put here before a run."""
        return tuple(entry.name for entry in self.store.list(LEDGER) if is_spec(entry.name))

    def create_run(
        self,
        fingerprint: Fingerprint,
        plan: Plan,
        spec: Mapping[str, JsonValue],
        parity: Parity | None = None,
    ) -> RunRecord:
        """Claim the folder: plan first, then `run.json`. Whoever comes second gets the first's record."""
        self.store.prepare()
        text = plan_to_json(plan)
        record = replace(_draft(fingerprint, plan, plan_name(text), spec), parity=parity)
        self._write_plan(text)
        if self.store.create_bytes(RUN, _dump(record)):
            return record
        return self.read_run() or record

    def replace_run(self, begun: RunRecord, record: RunRecord, plan: Plan) -> RunRecord:
        """Put a new run in the place of one that was begun; its parts have names of their own.

        Runners of the old one that still live write parts that no manifest lists.

        Raises:
            OutputConflict: somebody else has replaced it meanwhile.
        """
        self.store.prepare()
        generation = begun.generation + 1
        run8 = Fingerprint({**record.fields, "plan": record.plan}).run8(generation)
        record = replace(record, generation=generation, run8=run8)
        self._write_plan(plan_to_json(plan))
        found = self.store.read(RUN)
        is_begun = found is not None and self._parse(RunRecord, RUN, found) == begun
        if found is None or not is_begun or not self.store.replace_if(RUN, _dump(record), found):
            raise OutputConflict(
                "another runner has begun a new run here, just now",
                self.store.location,
                "run without --overwrite to join it",
            )
        return record

    def _write_plan(self, text: bytes) -> str:
        return write_text(self.store, text)

    def require_current(self, record: RunRecord) -> None:
        """Hold a run against the one that the folder is for now.

        Raises:
            OutputConflict: it was overwritten.
        """
        now = self.read_run()
        if now is None or now.run8 != record.run8:
            raise OutputConflict(
                "this run was overwritten by another one",
                self.store.location,
                "what it wrote is not listed any more; `batchneuron gc` removes it",
            )

    def list_committed(self, record: RunRecord) -> frozenset[int]:
        """Shards whose part exists."""
        return frozenset(self.list_parts(record))

    def list_parts(self, record: RunRecord) -> dict[int, Entry]:
        """The part of each shard that has one; nothing is read."""
        return self.list_data(record)[0]

    def list_data(self, record: RunRecord) -> tuple[dict[int, Entry], tuple[str, ...]]:
        """The part of each shard that has one, and the names of files that are no parts of this run."""
        parts: dict[int, Entry] = {}
        strays: list[str] = []
        for entry in self.store.list(DATA):
            index = find_shard(record, entry.name)
            if index is None:
                strays.append(entry.name)
            else:
                parts[index] = entry
        return parts, tuple(strays)

    def require_sizes(self, record: RunRecord, plan: Plan, parts: Mapping[int, Entry]) -> None:
        """Hold the sizes of parts against those that were reported: one is read only where they differ.

        Raises:
            OutputConflict: a part is not what its runner wrote.
        """
        told: dict[int, set[int]] = {}
        for progress in self.read_progress(record):
            for part in progress.parts:
                if part.created:
                    told.setdefault(part.shard, set()).add(part.size_bytes)
        with contextlib.suppress(OutputConflict):
            manifest = self.read_manifest(record)
            for index, listed in enumerate(manifest.parts if manifest else ()):
                told.setdefault(index, set()).add(listed.size_bytes)
        for index, entry in parts.items():
            is_known = index in told
            if entry.size_bytes < _LEAST_BYTES or (is_known and entry.size_bytes not in told[index]):
                self.read_own_footer(record, plan.shards[index])

    def commit_part(self, record: RunRecord, shard: Shard, part: WrittenPart) -> bool:
        """Publish a part: True, or False when another runner of the same run was first.

        Raises:
            OutputConflict: something else stands under the part's name.
        """
        tags = {key.removeprefix(_OURS): part.metadata[key] for key in _TAGS if key in part.metadata}
        tags["rows"] = str(shard.rows)
        if self.store.create(part_name(record, shard.index), Draft(part.path, part.sha256, tags)):
            return True
        self.read_own_footer(record, shard)
        return False

    def read_own_footer(self, record: RunRecord, shard: Shard) -> Mapping[str, str]:
        """The footer of a shard's part, once it has said that it is that part.

        Raises:
            OutputConflict: something else stands under the part's name.
        """
        name = part_name(record, shard.index)
        where = f"{self.store.location}/{name}"
        try:
            footer = self.store.read_footer(name)
        except OutputConflict as error:
            raise OutputConflict(error.what, where, _advise_removal(where)) from error
        if footer.get(FINGERPRINT_KEY) != record.fingerprint or int(footer["num_rows"]) != shard.rows:
            raise OutputConflict(
                "a file that is not of this run stands where a part belongs", where, _advise_removal(where)
            )
        return footer

    def write_progress(self, record: RunRecord, progress: Progress) -> None:
        """Say what this runner has done so far."""
        self.store.replace_bytes(told_name(PROGRESS, record, progress.slot), _dump(progress, indent=None))

    def read_progress(self, record: RunRecord) -> tuple[Progress, ...]:
        """What every runner said it has done; files that a power cut damaged are left out."""
        return tuple(told for told, _ in self._iter_told(Progress, PROGRESS, record))

    def write_lease(self, record: RunRecord, lease: Lease) -> None:
        """Say what this runner has in hand."""
        self.store.replace_bytes(told_name(LEASES, record, lease.slot), _dump(lease))

    def delete_lease(self, record: RunRecord, slot: str) -> None:
        """Say that this runner has nothing in hand any more."""
        self.store.delete(told_name(LEASES, record, slot))

    def list_leases(self, record: RunRecord) -> dict[str, Leftover]:
        """The files of this run's leases, by slot."""
        return {
            find_slot(entry.name): Leftover("lease", f"{LEASES}/{entry.name}", entry.size_bytes)
            for entry in self.store.list(LEASES)
            if is_told(record, entry.name)
        }

    def read_leases(self, record: RunRecord) -> tuple[Lease, ...]:
        """What every runner said it has in hand; some of them may be dead."""
        return tuple(lease for lease, _ in self.list_runners(record))

    def list_runners(self, record: RunRecord) -> tuple[tuple[Lease, float], ...]:
        """Every lease, and how many seconds ago its runner wrote it, by the store's clock."""
        return tuple(self._iter_told(Lease, LEASES, record))

    def _iter_told(
        self, kind: type[_Record], folder: str, record: RunRecord
    ) -> Iterator[tuple[_Record, float]]:
        entries = [entry for entry in self.store.list(folder) if is_told(record, entry.name)]
        contents = self.store.read_many([f"{folder}/{entry.name}" for entry in entries])
        for entry, content in zip(entries, contents, strict=True):
            with contextlib.suppress(ValueError):
                yield _adapt(kind).validate_json(content or b""), entry.age_s

    def write_manifest(self, record: RunRecord, manifest: Manifest) -> None:
        """Publish the manifest of a run whose parts all exist.

        It is created, and racing finishers create the same bytes. One that an overwritten run has left, or
        that lists a part which was lost and made again, is replaced.

        Raises:
            OutputConflict: the run was overwritten.
        """
        content = _dump(manifest)
        while True:
            found = self.store.read(MANIFEST)
            self.require_current(record)
            if found == content:
                return
            if found is None and self.store.create_bytes(MANIFEST, content):
                return
            if found is not None and self.store.replace_if(MANIFEST, content, found):
                return

    def read_manifest(self, record: RunRecord) -> Manifest | None:
        """The run's manifest, None while it is not finished; one of a run that was overwritten is none."""
        content = self.store.read(MANIFEST)
        if content is None:
            return None
        manifest = self._parse(Manifest, MANIFEST, content)
        is_ours = (manifest.fingerprint, manifest.generation) == (record.fingerprint, record.generation)
        return manifest if is_ours else None

    def _parse(self, kind: type[_Record], name: str, content: bytes) -> _Record:
        where = f"{self.store.location}/{name}"
        try:
            record: _Record = _adapt(kind).validate_json(content)
        except ValidationError as error:
            raise OutputConflict(
                "damaged: it is not what batchneuron wrote",
                where,
                _advise_removal(where) if name == MANIFEST else "restore it, or choose another output.path",
            ) from error
        return record


def draft_run(fingerprint: Fingerprint, plan: Plan, spec: Mapping[str, JsonValue]) -> RunRecord:
    """What `run.json` would say; nothing is written."""
    return _draft(fingerprint, plan, plan_name(plan_to_json(plan)), spec)


def _draft(fingerprint: Fingerprint, plan: Plan, name: str, spec: Mapping[str, JsonValue]) -> RunRecord:
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


def _advise_removal(where: str) -> str:
    return f"remove it with `{tell_removal(where)}`, or move it away, and run again"


def _dump(record: object, indent: int | None = 2) -> bytes:
    return _adapt(type(record)).dump_json(record, indent=indent)
