"""Verify: whether a run is complete, proved from the run folder alone. What `batchneuron verify` does.

Every part is read to its end and held against the plan and the manifest; nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron.errors import Incomplete, OutputConflict
from batchneuron.ledger.found import Found, find_run
from batchneuron.ledger.run_folder import REJECTED_KEY, ROWS_KEY, SHARD_KEY, RunFolder
from batchneuron.ledger.run_names import MANIFEST, RUN, part_name, tell_removal
from batchneuron.ledger.run_record import Manifest, ManifestPart, RunRecord
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.planning.plan import Plan, Shard
from batchneuron.stages.columns import ERROR, ROW
from batchneuron.stores.at_once import map_at_once

_BATCH_ROWS = 4096
_AGAIN = "run the job again"


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that is not as it must be."""

    file: str
    """Relative to the run folder."""
    what: str
    repair: str
    """The command, or what to do."""
    exit_code: int
    """75: running the job again mends it; 73: something has to go first."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of a run."""

    output: str
    shards: int
    rows: int
    """Planned."""
    rows_found: int
    """In parts without a flaw."""
    rejected: int
    """Of them."""
    flaws: tuple[Flaw, ...]
    strays: tuple[str, ...]
    """Files in `data/` that are not of this run; a reader of the whole folder reads them too."""

    @property
    def is_whole(self) -> bool:
        """Whether every planned row is there once, as it was written."""
        return not self.flaws

    @property
    def exit_code(self) -> int:
        """0 when whole."""
        return max((flaw.exit_code for flaw in self.flaws), key=_CODES.index, default=0)


_CODES = (Incomplete.exit_code, OutputConflict.exit_code)


def verify_folder(path: str, on_part: Callable[[int, int], None] = lambda _, __: None) -> Verified:
    """Hold a run folder against its own plan.

    Args:
        path: the run folder.
        on_part: told after each part how many are done, of how many.

    Raises:
        DataError: there is no run in it.
        OutputConflict: `run.json` or the plan is missing or damaged: then nothing can be proved.
    """
    found = find_run(path)
    folder, record, plan = found.folder, found.record, found.plan
    flaws = list(_check_record(folder, record, plan))
    listed: Mapping[str, ManifestPart] = {}
    manifest = None
    try:
        manifest = found.manifest
        listed = {part.name: part for part in manifest.parts} if manifest else {}
    except OutputConflict as error:
        flaws.append(_damaged(folder, MANIFEST, error.what))
    rows_found = rejected = 0
    there = found.parts  # listed before the threads ask
    results = map_at_once(lambda shard: _judge_part(found, shard, there, listed), plan.shards)
    for shard, result in zip(plan.shards, results, strict=True):
        if isinstance(result, Flaw):
            flaws.append(result)
        else:
            rejected, rows_found = rejected + result, rows_found + shard.rows
        on_part(shard.index + 1, len(plan.shards))
    if not flaws:
        flaws += _check_manifest(folder, manifest, plan, rejected)
    return Verified(
        folder.store.location, len(plan.shards), plan.rows, rows_found, rejected, tuple(flaws), found.strays
    )


def _judge_part(
    found: Found, shard: Shard, there: Container[int], listed: Mapping[str, ManifestPart]
) -> int | Flaw:
    """Rejected rows of a shard's part, or what is wrong with it."""
    name = part_name(found.record, shard.index)
    if shard.index not in there:
        return Flaw(name, f"missing: {shard.rows} rows", _AGAIN, Incomplete.exit_code)
    try:
        return _check_part(found.folder, found.record, shard, listed.get(name.removeprefix("data/")))
    except (OutputConflict, pa.ArrowException, OSError) as error:
        what = error.what if isinstance(error, OutputConflict) else str(error)
        return _damaged(found.folder, name, what)


def _damaged(folder: RunFolder, name: str, what: str) -> Flaw:
    repair = f"{tell_removal(f'{folder.store.location}/{name}')}, and {_AGAIN}"
    return Flaw(name, what, repair, OutputConflict.exit_code)


def _check_record(folder: RunFolder, record: RunRecord, plan: Plan) -> Iterator[Flaw]:
    whole = Fingerprint({**record.fields, "plan": record.plan})
    is_ours = (whole.digest, whole.run8(record.generation)) == (record.fingerprint, record.run8)
    is_planned = (record.shards, record.rows) == (len(plan.shards), plan.rows)
    if not is_ours or not is_planned:
        what = "its fingerprint is not that of its fields" if not is_ours else "it does not fit its plan"
        yield Flaw(RUN, what, "restore it, or `run --overwrite`", OutputConflict.exit_code)


def _check_part(folder: RunFolder, record: RunRecord, shard: Shard, listed: ManifestPart | None) -> int:
    """Rejected rows of a part that holds what it must.

    Raises:
        OutputConflict: it does not.
        ArrowException, OSError: it cannot be read.
    """
    name = part_name(record, shard.index)
    footer = folder.read_own_footer(record, shard)
    expected = {SHARD_KEY: f"{shard.index} of {record.shards}", ROWS_KEY: f"{shard.row_lo} to {shard.row_hi}"}
    for key, value in expected.items():
        if footer.get(key, value) != value:
            raise OutputConflict(f"its footer says {key}: {footer[key]}, and it should be {value}")
    rejected = _read_rows(folder, name, shard)
    if rejected != int(footer[REJECTED_KEY]):
        raise OutputConflict(f"{rejected} rows are rejected, its footer says {footer[REJECTED_KEY]}")
    if listed is not None:
        found = (shard.row_lo, shard.row_hi, rejected, folder.store.read_sha256(name))
        if found != (listed.row_lo, listed.row_hi, listed.rejected, listed.sha256):
            raise OutputConflict("it is not the file that the manifest lists")
    return rejected


def _read_rows(folder: RunFolder, name: str, shard: Shard) -> int:
    """Rejected rows, once every page was read and `_row` counts through the shard."""
    at, rejected = shard.row_lo, 0
    source = folder.store.open_table(name)
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            rows = batch[ROW].to_numpy(zero_copy_only=False)
            if not np.array_equal(rows, np.arange(at, at + len(rows))):
                raise OutputConflict(f"its rows are not {shard.row_lo} to {shard.row_hi}, in order")
            at += len(rows)
            rejected += len(rows) - batch[ERROR].null_count
    return rejected


def _check_manifest(
    folder: RunFolder, manifest: Manifest | None, plan: Plan, rejected: int
) -> Iterator[Flaw]:
    """Flaws of the manifest of a run whose parts have none."""
    if manifest is None:
        yield Flaw(MANIFEST, "missing: the run is not finished", _AGAIN, Incomplete.exit_code)
        return
    shards = [(shard.row_lo, shard.row_hi) for shard in plan.shards]
    is_same = [(part.row_lo, part.row_hi) for part in manifest.parts] == shards
    if not is_same or (manifest.rows, manifest.rejected) != (plan.rows, rejected):
        yield _damaged(folder, MANIFEST, "it does not fit the plan and the parts")
