"""Status: how far a run has come, read from its folder alone, from anywhere, whatever engine does it.

No runner is asked and no two machines' clocks are compared: how old a file is, its store says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from batchneuron.errors import Incomplete
from batchneuron.ledger.found import Found, find_run, look_into
from batchneuron.ledger.lease import DEAD_AFTER_S, is_gone
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_record import Lease, RunRecord
from batchneuron.planning.plan import Plan
from batchneuron.programs.agreement import Parity
from batchneuron.sources.source import SkippedFile
from batchneuron.stores import open_store

_PACE_SPAN_S = 900.0  # parts of the last quarter of an hour; one part is minutes of a worker's time


@dataclass(frozen=True, slots=True)
class Runner:
    """One runner, as its lease tells."""

    name: str
    """What its scheduler calls it: `3/8, attempt 2`; empty: nothing."""
    host: str
    pid: int
    shards: int
    """In its hands, and not done by anybody."""
    age_s: float
    """Since its lease last changed; one at work changes every 20 s."""
    is_silent: bool
    """It has not changed for a minute, or its process is gone: others will do what it holds."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run has come."""

    output: str
    shards: int
    shards_done: int
    rows: int
    rows_done: int
    rejected: int
    is_finished: bool
    strays: tuple[str, ...]
    parity: Parity | None
    """How the programs agree with the reference; None: the run was opened by an older version."""
    runners: tuple[Runner, ...]
    """Those at work, and those that fell silent with shards in their hands."""
    rows_per_s: float | None
    """Of all runners, over the parts of the last quarter of an hour; None: nobody works, or too few parts."""
    left_s: float | None
    """Seconds until the end at that pace."""
    skipped: tuple[SkippedFile, ...] = ()
    """Damaged input files that the run does without; their rows are not among `rows`."""


def read_status(path: str) -> Status:
    """How far the run in this folder has come.

    Raises:
        DataError: there is no run in it.
        Incomplete: one was submitted, and no runner has begun yet.
    """
    return describe_run(find_run(path))


def describe_run(found: Found) -> Status:
    """How far a run has come."""
    folder, plan, parts, manifest = found.folder, found.plan, found.parts, found.manifest
    runners = () if manifest else _list_runners(folder, found.record, frozenset(parts))
    reported = () if manifest else found.reported
    made = [(plan.shards[index].rows, entry.age_s) for index, entry in parts.items()]
    rows_done = sum(rows for rows, _ in made)
    is_at_work = any(not runner.is_silent for runner in runners)
    pace = measure_pace(made) if is_at_work else None
    return Status(
        output=folder.store.location,
        shards=len(plan.shards),
        shards_done=len(parts),
        rows=plan.rows,
        rows_done=rows_done,
        rejected=manifest.rejected if manifest else sum(part.rejected for part in reported),
        is_finished=manifest is not None,
        strays=found.strays,
        parity=found.record.parity,
        runners=runners,
        rows_per_s=pace,
        left_s=(plan.rows - rows_done) / pace if pace else None,
        skipped=plan.skipped,
    )


def follow_run(
    path: str, every_s: float, rest: Callable[[float], None] = time.sleep
) -> Iterator[Status | None]:
    """The status again and again, until the run is finished; None while it is submitted, and not begun.

    Raises:
        DataError: there is no run in it, and none was submitted.
    """
    folder, plans = RunFolder(open_store(path)), dict[str, Plan]()
    while True:
        try:
            status = describe_run(look_into(folder, plans))
        except Incomplete:
            status = None
        yield status
        if status is not None and status.is_finished:
            return
        rest(every_s)


def measure_pace(parts: Iterable[tuple[int, float]]) -> float | None:
    """Rows per second, of the rows and the age in seconds of each part; None: there are too few.

    From the oldest recent part until now, so that a pace falls when nothing comes any more. That part itself
    was made before, and does not count.
    """
    recent = sorted((age_s, rows) for rows, age_s in parts if age_s <= _PACE_SPAN_S)
    if len(recent) < 2 or recent[-1][0] <= 0:
        return None
    return sum(rows for _, rows in recent[:-1]) / recent[-1][0]


def _list_runners(folder: RunFolder, record: RunRecord, done: frozenset[int]) -> tuple[Runner, ...]:
    found = [_describe(lease, age_s, done) for lease, age_s in folder.list_runners(record)]
    # One that ended where nothing may be deleted leaves a lease with empty hands.
    return tuple(runner for runner in found if runner.shards or not runner.is_silent)


def _describe(lease: Lease, age_s: float, done: frozenset[int]) -> Runner:
    hand = len(set(lease.shards) - done)
    is_silent = age_s > DEAD_AFTER_S or is_gone(lease)
    return Runner(lease.name, lease.host.partition("@")[0], lease.pid, hand, age_s, is_silent)
