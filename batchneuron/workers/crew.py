"""The Crew seam: where workers come from, and what a supervisor can do with one.

A worker may be a process of this machine (`worker_process.py`) or an actor of a cluster
(`engines/ray_crew.py`). What is done when one fails is the supervisor's affair, and the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from batchneuron.backends.backend import Core
from batchneuron.workers.case import Assignment
from batchneuron.workers.events import Event, Failure
from batchneuron.workers.pulse import Place
from batchneuron.workers.work_order import WorkOrder


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended that had not been told to."""

    failure: Failure
    is_machines: bool = False
    """Whether its whole machine went: then nothing is held against the shard in its hands or the core."""


class Hand(Protocol):
    """One started worker."""

    @property
    def is_placed(self) -> bool:
        """Whether it is somewhere; False: it still waits for a machine that has room."""

    def send(self, message: Assignment | None) -> None:
        """Give it a shard, or tell it to end; to a dead one nothing happens."""

    def receive(self) -> Sequence[Event] | None:
        """What it has told since it was asked; None: it is gone. Waits for nothing after `Crew.wait`."""

    def kill(self) -> None:
        """End it at once; a second time does nothing."""

    def count_beats(self) -> int | None:
        """A number that grows while it gets on with its work; None: it cannot be watched."""

    def find_places(self) -> Sequence[Place]:
        """What its threads have in hand, or had when it died; none where nobody knows."""

    def dump_stacks(self) -> None:
        """Let it write to stderr where each of its threads stands; does not wait for it."""

    def bury(self) -> Death:
        """Wait until it is gone for certain, and give back what it used."""


class Crew(Protocol):
    """Starts workers."""

    def find_cores(self) -> Sequence[Core]:
        """Cores that have come since this was asked for the last time."""

    def start(self, order: WorkOrder, core: Core) -> Hand:
        """A new worker for that core, which tells of itself when it is ready."""

    def wait(self, hands: Sequence[Hand], timeout_s: float) -> Sequence[Hand]:
        """Those that have told something, or are gone; none when the time is over."""
