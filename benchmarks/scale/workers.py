"""Simulated workers: what the real supervisor holds for a crew, each a pipeline of three stages in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agenda import Agenda
from workload import Job

from batchneuron.backends.backend import Core
from batchneuron.planning.plan import Shard
from batchneuron.workers.crew import Death
from batchneuron.workers.events import Event, Failure, PartDone, StageSeconds, WorkerReady
from batchneuron.workers.work_order import WorkOrder

Commit = Callable[[int], tuple[bool, float]]
"""Commits a shard's part: whether it was the first, and when that is known."""


@dataclass(slots=True)
class Pace:
    """What the workers of one machine take for a shard, and what they have done."""

    job: Job
    slowness: float
    load_s: float
    busy_s: float = 0.0
    """Of the devices, for parts that were begun."""
    wasted_s: float = 0.0
    """Of that, for parts that were lost or that another had made first."""


@dataclass(slots=True)
class Timetable:
    """When a shard in a worker's hands is where."""

    shard: Shard
    device_from_s: float
    device_to_s: float
    written_s: float


@dataclass(slots=True, eq=False)
class SimulatedHand:
    """One worker: a shard is encoded, computed and written while its neighbours are at other stages."""

    agenda: Agenda
    pace: Pace
    commit: Commit
    on_news: Callable[[], None]
    is_gone: bool = False
    is_placed: bool = True
    inbox: list[Event] = field(default_factory=list)
    """What it has told, and nobody has read."""
    held: dict[int, Timetable] = field(default_factory=dict)
    _encoded_s: float = 0.0
    _computed_s: float = 0.0
    _written_s: float = 0.0

    def send(self, message: object) -> None:
        """Take a shard, or end."""
        shard = getattr(message, "shard", message)
        if not isinstance(shard, Shard):
            self.is_gone = True
            self.agenda.at(self.agenda.now_s, self.on_news)
            return
        job, slowness, index = self.pace.job, self.pace.slowness, shard.index
        self._encoded_s = max(self._encoded_s, self.agenda.now_s) + float(job.encode_s[index]) * slowness
        start_s = max(self._computed_s, self._encoded_s)
        self._computed_s = start_s + float(job.device_s[index]) * slowness
        self._written_s = max(self._written_s, self._computed_s) + float(job.write_s[index]) * slowness
        self.held[index] = Timetable(shard, start_s, self._computed_s, self._written_s)
        self.agenda.at(self._written_s, lambda: self._publish(index))

    def _publish(self, index: int) -> None:
        if self.is_gone:
            return
        created, answered_s = self.commit(index)
        self._written_s = max(self._written_s, answered_s)
        self.agenda.at(answered_s, lambda: self._tell_done(index, created))

    def _tell_done(self, index: int, created: bool) -> None:
        if self.is_gone:
            return
        done = self.held.pop(index)
        taken_s = done.device_to_s - done.device_from_s
        self.pace.busy_s += taken_s
        self.pace.wasted_s += 0.0 if created else taken_s
        seconds = StageSeconds(device_s=taken_s, write_s=done.written_s - done.device_to_s)
        rows = done.shard.rows
        self.inbox.append(
            PartDone(
                **dict.fromkeys(("rejected", "truncated", "tokens", "slots"), 0),
                **{"shard": index, "rows": rows, "size_bytes": 1 << 20, "sha256": ""},
                created=created,
                seconds=seconds,
            )
        )
        self.on_news()

    def tell_ready(self) -> None:
        """Its executables are loaded."""
        if not self.is_gone:
            self.inbox.append(WorkerReady(self.pace.load_s))
            self.on_news()

    def receive(self) -> Sequence[Event] | None:
        """What it has told since it was asked."""
        if not self.inbox and self.is_gone:
            return None
        told, self.inbox = self.inbox, []
        return told

    def kill(self) -> None:
        """End at once; what was on the device is lost."""
        if self.is_gone:
            return
        self.is_gone = True
        now_s = self.agenda.now_s
        for lost in self.held.values():
            spent_s = max(0.0, min(now_s, lost.device_to_s) - lost.device_from_s)
            self.pace.busy_s += spent_s
            self.pace.wasted_s += spent_s

    def count_beats(self) -> int | None:
        """It never hangs."""
        return None

    def find_places(self) -> Sequence[object]:
        """Nobody knows."""
        return ()

    def dump_stacks(self) -> None:
        """It has none."""

    def bury(self) -> Death:
        """It is gone with its machine."""
        return Death(Failure("WorkerFailed", "its machine is gone", 75, True, ""), is_machines=True)


@dataclass(slots=True)
class SimulatedCrew:
    """Workers of one machine."""

    agenda: Agenda
    pace: Pace
    commit: Commit
    on_news: Callable[[], None]
    hands: list[SimulatedHand] = field(default_factory=list)

    def find_cores(self) -> Sequence[Core]:
        """All are there from the beginning."""
        return ()

    def start(self, order: WorkOrder, core: Core) -> SimulatedHand:
        """A worker that loads, and is ready then."""
        hand = SimulatedHand(self.agenda, self.pace, self.commit, self.on_news)
        self.hands.append(hand)
        self.agenda.at(self.agenda.now_s + self.pace.load_s, hand.tell_ready)
        return hand

    def wait(self, hands: Sequence[SimulatedHand], timeout_s: float) -> Sequence[SimulatedHand]:
        """Those that have something to tell at this moment."""
        return [hand for hand in hands if hand.inbox or hand.is_gone]
