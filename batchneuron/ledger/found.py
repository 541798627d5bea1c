"""Found: a run as its folder shows it, for the commands that take a folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from batchneuron.errors import DataError, Incomplete
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_record import Manifest, Progress, RunRecord
from batchneuron.planning.plan import Plan
from batchneuron.stores import open_store
from batchneuron.stores.store import Entry
from batchneuron.workers.events import PartDone


@dataclass(frozen=True)
class Found:
    """A run at the moment of one look; each thing is read when it is first asked for, and once.

    All raise OutputConflict where a file is damaged, or the plan is gone.
    """

    folder: RunFolder
    record: RunRecord
    plans: dict[str, Plan]
    """Those that an earlier look has read, by name: a plan never changes."""

    @property
    def plan(self) -> Plan:
        """The plan the run was opened with."""
        if self.record.plan not in self.plans:
            self.plans[self.record.plan] = self.folder.read_plan(self.record)
        return self.plans[self.record.plan]

    @property
    def parts(self) -> dict[int, Entry]:
        """The part of each shard that has one."""
        return self._data[0]

    @property
    def strays(self) -> tuple[str, ...]:
        """Files in `data/` that are not of this run."""
        return self._data[1]

    @cached_property
    def _data(self) -> tuple[dict[int, Entry], tuple[str, ...]]:
        return self.folder.list_data(self.record)

    @cached_property
    def manifest(self) -> Manifest | None:
        """The run's manifest, None while it is not finished."""
        return self.folder.read_manifest(self.record)

    @cached_property
    def progress(self) -> tuple[Progress, ...]:
        """What every runner said it has done."""
        return self.folder.read_progress(self.record)

    @cached_property
    def reported(self) -> tuple[PartDone, ...]:
        """Each part that a runner has reported as its own, once."""
        told = {part.shard: part for runner in self.progress for part in runner.parts if part.created}
        return tuple(told.values())


def find_run(path: str) -> Found:
    """The run in the folder at a path.

    Raises:
        DataError: there is none.
        Incomplete: one was submitted, and no runner has begun yet.
    """
    return look_into(RunFolder(open_store(path)), {})


def look_into(folder: RunFolder, plans: dict[str, Plan]) -> Found:
    """As `find_run`, with the plans of earlier looks; that of this one will be among them."""
    record = folder.read_run()
    if record is not None:
        return Found(folder, record, plans)
    where = folder.store.location
    if folder.list_frozen():
        raise Incomplete("submitted, and no runner has begun yet", where, "look again in some minutes")
    raise DataError("no run in this folder", where, "give the output.path of a job")
