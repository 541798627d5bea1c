"""The names of the files in a run folder; no other module knows them.

    OUT/data/part-00042_of_00128-<run8>.parquet    a part: if it exists, it is committed
    OUT/.batchneuron/run.json                      what this folder is for; created once
    OUT/.batchneuron/plan-<sha16>.json.zst         the plan, by its content
    OUT/.batchneuron/spec-<sha16>.json             what `submit` gave its runners, by its content
    OUT/.batchneuron/progress/<run8>-<slot>.json   what a runner has done so far; advisory
    OUT/.batchneuron/leases/<run8>-<slot>.json     what a runner has in hand; advisory
    OUT/.batchneuron/tmp/                          files being written
    OUT/.batchneuron/manifest.json                 every part and its digest; created last

`run8` stands for one run: the digest of its fingerprint and of its generation.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable

from batchneuron.ledger.run_record import Kind, RunRecord
from batchneuron.stores.scratch import is_left
from batchneuron.stores.store import Entry

DATA = "data"
LEDGER = ".batchneuron"
RUN = f"{LEDGER}/run.json"
MANIFEST = f"{LEDGER}/manifest.json"
PROGRESS = f"{LEDGER}/progress"
LEASES = f"{LEDGER}/leases"
TMP = f"{LEDGER}/tmp"
_PART = re.compile(r"part-(\d+)_of_(\d+)-[0-9a-f]{8}\.parquet")
_PROBE = re.compile(r"probe-[0-9a-f]{32}")  # stores/s3_probe.py
_PROBE_LASTS_S = 3600.0
_SPEC = re.compile(r"spec-[0-9a-f]{16}\.json")
_TOLD = re.compile(r"[0-9a-f]{8}-[0-9a-f]{12}\.json")


def part_name(record: RunRecord, index: int) -> str:
    """Where a shard's part goes, relative to the run folder."""
    return f"{DATA}/part-{index:05d}_of_{record.shards:05d}-{record.run8}.parquet"


def find_shard(record: RunRecord, name: str) -> int | None:
    """The shard whose part has this name in `data/`; None: it is no part of this run."""
    end = f"_of_{record.shards:05d}-{record.run8}.parquet"
    digits = name.removeprefix("part-").removesuffix(end)
    if not digits.isdecimal():
        return None
    index = int(digits)
    is_part = index < record.shards and name == f"part-{index:05d}{end}"
    return index if is_part else None


def plan_name(text: bytes) -> str:
    """The file of a plan, below `.batchneuron/`."""
    return f"plan-{hashlib.sha256(text).hexdigest()[:16]}.json.zst"


def spec_name(text: bytes) -> str:
    """The file of a frozen spec, below `.batchneuron/`."""
    return f"spec-{hashlib.sha256(text).hexdigest()[:16]}.json"


def is_spec(name: str) -> bool:
    """Whether a file below `.batchneuron/` is a frozen spec."""
    return _SPEC.fullmatch(name) is not None


def told_name(folder: str, record: RunRecord, slot: str) -> str:
    """What one runner says: in PROGRESS or in LEASES."""
    return f"{folder}/{record.run8}-{slot}.json"


def find_slot(name: str) -> str:
    """Which runner says it, by the name of the file in PROGRESS or LEASES."""
    return name.partition("-")[2].removesuffix(".json")


def is_told(record: RunRecord, name: str) -> bool:
    """Whether a file in PROGRESS or LEASES is of this run."""
    return name.startswith(f"{record.run8}-")


def _is_old_part(record: RunRecord, entry: Entry) -> bool:
    return _PART.fullmatch(entry.name) is not None and find_shard(record, entry.name) is None


def _is_old_probe(_record: RunRecord, entry: Entry) -> bool:
    return _PROBE.fullmatch(entry.name) is not None and entry.age_s > _PROBE_LASTS_S


def _is_old_word(record: RunRecord, entry: Entry) -> bool:
    return _TOLD.fullmatch(entry.name) is not None and not is_told(record, entry.name)


LEFT: tuple[tuple[str, Kind, Callable[[RunRecord, Entry], bool]], ...] = (
    (DATA, "part", _is_old_part),
    (LEDGER, "probe", _is_old_probe),
    (PROGRESS, "progress", _is_old_word),
    (LEASES, "lease", _is_old_word),
    (TMP, "scratch", lambda _, entry: is_left(entry.name)),
)
"""What a run that was overwritten, or a process that died, leaves in each folder.

No plan is among it: it is small, and one that this run has no use for may be that of a run which begins.
"""


def tell_removal(where: str) -> str:
    """The command that removes a file of a run folder."""
    return f"aws s3 rm {shlex.quote(where)}" if where.startswith("s3://") else f"rm {shlex.quote(where)}"
