"""What people should hear of an input before its rows are predicted: files left out, columns that drift."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from batchneuron.sources.source import Drift, Inventory, SkippedFile

_MOST = 5


def list_notes(inventory: Inventory, needed: pa.Schema) -> tuple[str, ...]:
    """A line for each thing that is not as it seems; of columns only those that the job reads."""
    drifts = [drift for drift in inventory.drifts if drift.column in needed.names]
    return (*tell_skipped(inventory.skipped), *_shorten([_tell_drift(drift) for drift in drifts]))


def tell_skipped(skipped: Sequence[SkippedFile]) -> tuple[str, ...]:
    """A line for each file that is left out."""
    return _shorten([f"{file.uri} is left out ({_count_lost(file)}): {file.reason}" for file in skipped])


def _count_lost(file: SkippedFile) -> str:
    if file.rows is None:
        return "its rows cannot be counted"
    return f"{file.rows:,} rows could be counted in it"


def _tell_drift(drift: Drift) -> str:
    files = f"in {drift.files:,} {'file' if drift.files == 1 else 'files'}"
    where = f"{files} ({drift.rows:,} rows), as in {drift.first}"
    if drift.found is None:
        return f"column '{drift.column}' is missing {where}: it is null there"
    return f"column '{drift.column}' is {drift.found} {where}: it is read as {drift.read_as}"


def _shorten(lines: Sequence[str]) -> tuple[str, ...]:
    rest = len(lines) - _MOST
    return (*lines[:_MOST], f"and {rest:,} more like that") if rest > 0 else tuple(lines)
