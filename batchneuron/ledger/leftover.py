"""Leftover: what overwritten runs and dead processes have left in a run folder, by names alone."""

from __future__ import annotations

import contextlib

from batchneuron.errors import OutputConflict
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import LEFT
from batchneuron.ledger.run_record import Leftover, RunRecord


def list_left(folder: RunFolder) -> tuple[Leftover, ...]:
    """Files that no run needs any more.

    All is listed before `run.json` is read, and a run writes nothing but its plan before it is there, so that
    no part of a run that begins meanwhile is among it. Nor is any part until the present run is complete:
    what the manifest lists must be there.
    """
    listed = [(name, kind, is_old, folder.store.list(name)) for name, kind, is_old in LEFT]
    record = folder.read_run()
    is_complete = record is not None and _is_complete(folder, record)
    return tuple(
        Leftover(kind, f"{name}/{entry.name}", entry.size_bytes)
        for name, kind, is_old, entries in listed
        for entry in entries
        if record is not None and is_old(record, entry) and (is_complete or kind != "part")
    )


def _is_complete(folder: RunFolder, record: RunRecord) -> bool:
    """Whether the run's manifest is there."""
    with contextlib.suppress(OutputConflict):
        return folder.read_manifest(record) is not None
    return False


def delete_old_parts(folder: RunFolder) -> None:
    """Remove the parts of overwritten runs, now that the new one is complete.

    Raises:
        OutputUnwritable: a file cannot be removed.
    """
    folder.store.delete_many([file.name for file in list_left(folder) if file.kind == "part"])
