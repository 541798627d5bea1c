"""Sweep: remove from a run folder what no run needs any more. What `batchneuron gc` does.

Only files with names of ours are removed: parts of runs that were overwritten, their reports, leases
of runners that are dead, half-written files of dead processes of this host, and what a killed start tried a
bucket with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from batchneuron.ledger.found import find_run
from batchneuron.ledger.lease import DEAD_AFTER_S, Lookout
from batchneuron.ledger.leftover import list_left
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_record import Lease, Leftover, RunRecord

_LOOK_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed, or would be."""

    output: str
    files: tuple[Leftover, ...]
    live_runners: int
    """Whose files stay."""
    is_dry_run: bool


@dataclass(frozen=True, slots=True)
class Patience:
    """How dead leases are told from live ones: by watching them."""

    on_wait: Callable[[int], None] = lambda _: None
    """So many leases are going to be watched."""
    clock: Callable[[], float] = time.monotonic
    rest: Callable[[float], None] = time.sleep


def sweep_folder(path: str, *, dry_run: bool = False, patience: Patience | None = None) -> Swept:
    """Remove what is left over.

    Raises:
        DataError: there is no run in the folder.
        OutputUnwritable: a file cannot be removed.
    """
    found = find_run(path)
    folder = found.folder
    dead, live = _watch_leases(folder, found.record, patience or Patience())
    files = (*list_left(folder), *dead)
    if not dry_run:
        folder.store.delete_many([file.name for file in files])
    return Swept(folder.store.location, files, live, dry_run)


def _watch_leases(
    folder: RunFolder, record: RunRecord, patience: Patience
) -> tuple[tuple[Leftover, ...], int]:
    """Leases that do not change for as long as a dead one takes, and how many others there are."""
    files, lookout = folder.list_leases(record), Lookout(patience.clock)
    unsure = set(lookout.find_live(folder.read_leases(record)))
    live: set[Lease] = set(unsure)
    if unsure:
        patience.on_wait(len(unsure))
    started_s = patience.clock()
    while unsure and patience.clock() - started_s < DEAD_AFTER_S:
        patience.rest(_LOOK_EVERY_S)
        live = set(lookout.find_live(folder.read_leases(record)))
        unsure &= live
    slots = {lease.slot for lease in live}
    return tuple(file for slot, file in files.items() if slot not in slots), len(live)
