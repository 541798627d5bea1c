"""Finish: the manifest of a run whose parts are all there, made by whoever finds them so."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from batchneuron.errors import OutputConflict
from batchneuron.ledger.run_folder import REJECTED_KEY, RunFolder
from batchneuron.ledger.run_names import part_name
from batchneuron.ledger.run_record import Manifest, ManifestPart, RunRecord
from batchneuron.planning.plan import Plan, Shard
from batchneuron.stores.at_once import map_at_once
from batchneuron.stores.store import Entry
from batchneuron.workers.events import PartDone

_Told = dict[int, tuple[int, str]]
"""Rejected rows and SHA-256 of parts, by shard."""


def finish_run(
    folder: RunFolder,
    record: RunRecord,
    plan: Plan,
    done: Mapping[int, PartDone | None],
    parts: Mapping[int, Entry],
) -> Manifest:
    """The manifest of a run whose parts all exist, written.

    Args:
        folder: where the run is.
        record: the run.
        plan: its plan.
        done: what a runner has reported of a part; None: several say that they made it. Of parts that nobody
            reported, a manifest of this run that fits is believed; the others are looked at.
        parts: the part of every shard.

    Raises:
        OutputConflict: the run was overwritten, or a part is not what it should be.
    """
    try:
        told = _collect(folder, record, plan, done, parts)
    except OutputConflict:
        folder.require_current(record)  # who overwrote it has removed its parts
        raise
    listed = tuple(
        ManifestPart(
            parts[shard.index].name,
            shard.row_lo,
            shard.row_hi,
            told[shard.index][0],
            parts[shard.index].size_bytes,
            told[shard.index][1],
        )
        for shard in plan.shards
    )
    manifest = Manifest(
        record.fingerprint,
        plan.rows,
        sum(part.rejected for part in listed),
        listed,
        record.parity,
        record.generation,
        plan.skipped,
    )
    folder.write_manifest(record, manifest)
    return manifest


def _collect(
    folder: RunFolder,
    record: RunRecord,
    plan: Plan,
    done: Mapping[int, PartDone | None],
    parts: Mapping[int, Entry],
) -> _Told:
    told = {
        index: (report.rejected, report.sha256)
        for index, report in done.items()
        if report is not None and report.created and report.size_bytes == parts[index].size_bytes
    }
    told |= _inspect(folder, record, [plan.shards[index] for index in done if index not in told])
    silent = [shard for shard in plan.shards if shard.index not in told]
    if silent:
        told |= _recall(folder, record, parts, told) or _inspect(folder, record, silent)
    return told


def _recall(folder: RunFolder, record: RunRecord, parts: Mapping[int, Entry], told: _Told) -> _Told:
    """What a manifest of this run says of its parts; nothing if any is not the one that is there."""
    with contextlib.suppress(OutputConflict):  # damaged: it is written anew
        manifest = folder.read_manifest(record)
        if manifest is not None:
            listed = {index: (part.rejected, part.sha256) for index, part in enumerate(manifest.parts)}
            sizes = {index: (part.name, part.size_bytes) for index, part in enumerate(manifest.parts)}
            found = {index: (entry.name, entry.size_bytes) for index, entry in parts.items()}
            if sizes == found and told.items() <= listed.items():
                return listed
    return {}


def _inspect(folder: RunFolder, record: RunRecord, shards: Sequence[Shard]) -> _Told:
    """What the parts say themselves: of shards whose runner was killed before it could report them."""
    found = map_at_once(lambda shard: _inspect_part(folder, record, shard), shards)
    return dict(zip((shard.index for shard in shards), found, strict=True))


def _inspect_part(folder: RunFolder, record: RunRecord, shard: Shard) -> tuple[int, str]:
    name = part_name(record, shard.index)
    tags = folder.store.read_tags(name)
    is_ours = (tags.get("fingerprint"), tags.get("rows")) == (record.fingerprint, str(shard.rows))
    if is_ours and {"rejected", "sha256"} <= tags.keys():
        return int(tags["rejected"]), tags["sha256"]
    footer = folder.read_own_footer(record, shard)
    return int(footer[REJECTED_KEY]), folder.store.read_sha256(name)
