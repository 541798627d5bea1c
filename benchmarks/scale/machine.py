"""One machine: the real supervisor, hand-out and claims of a runner, driven by simulated time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agenda import Agenda
from bucket import Bucket, Client, SimulatedFolder
from fleet import Fate
from workers import Pace, SimulatedCrew
from workload import Job

from batchneuron.backends.backend import Core
from batchneuron.ledger.lease import Claims
from batchneuron.ledger.run_folder import FINGERPRINT_KEY
from batchneuron.ledger.run_names import part_name
from batchneuron.ledger.run_record import RunRecord
from batchneuron.stages.write import WrittenPart
from batchneuron.workers.events import Event, PartDone
from batchneuron.workers.handout import HandOut
from batchneuron.workers.supervise import Supervisor
from batchneuron.workers.ticket import Ticket

_POLL_S = 2.0
"""A runner that waits for others asks so often; the real one four times as often."""
_PROGRESS_EVERY_S = 5.0


@dataclass(slots=True)
class View:
    """The claims as the supervisor sees them: what a look finds is known when the last answer is there."""

    claims: Claims
    on_news: Callable[[], None]
    own: range = range(0)
    done: frozenset[int] = frozenset()
    held: frozenset[int] = frozenset()
    others: int = 0

    def refresh(self) -> bool:
        """See what the last look has found; whether anything."""
        before = self.done, self.held
        self.done, self.held, self.others = self.claims.done, self.claims.held, self.claims.others
        return self.done is not before[0] or self.held is not before[1]

    def take(self, index: int) -> None:
        """Pass it on."""
        self.claims.take(index)
        self.on_news()

    def give_back(self, index: int) -> None:
        """Pass it on."""
        self.claims.give_back(index)

    def is_patience_over(self) -> bool:
        """Pass it on."""
        return self.claims.is_patience_over()


@dataclass(frozen=True, slots=True)
class Site:
    """What all machines of a run share."""

    agenda: Agenda
    bucket: Bucket
    job: Job
    record: RunRecord


@dataclass(slots=True)
class Machine:
    """A runner from its first look to its end."""

    site: Site
    fate: Fate
    cores: int
    ticket: Ticket
    asked_s: float
    on_lost: Callable[[Machine], None]
    pace: Pace = field(init=False)
    ended_s: float | None = None
    """When it was gone, or had nothing more to do."""
    _client: Client = field(init=False)
    _folder: SimulatedFolder = field(init=False)
    _claims: Claims = field(init=False)
    _view: View = field(init=False)
    _supervisor: Supervisor = field(init=False)
    _handout: HandOut = field(init=False)
    _crew: SimulatedCrew = field(init=False)
    was_lost: bool = False
    _is_stopped: bool = False
    _looked_s: float = 0.0
    """When the last answer of the last look was there."""
    _look_at_s: float = float("inf")
    """When the next one is."""
    _is_polling: bool = False
    _saved_s: float = 0.0

    def __post_init__(self) -> None:
        self.pace = Pace(self.site.job, self.fate.slowness, self.fate.load_s)
        self._client = Client(self.site.bucket)
        self._folder = SimulatedFolder(self._client)
        agenda = self.site.agenda
        agenda.at(self.asked_s + self.fate.opened_s, self._open)
        lost_s = self.asked_s + self.fate.reclaimed_s
        if lost_s < float("inf"):
            agenda.at(lost_s, self._notice if self.fate.is_noticed else self._lose)

    @property
    def billed_s(self) -> float:
        """Seconds that are paid for."""
        end_s = self.site.agenda.now_s if self.ended_s is None else self.ended_s
        return max(0.0, end_s - self.asked_s - self.fate.billed_s)

    def _open(self) -> None:
        """What a runner does before its workers start: list what is there, say that it lives, look around."""
        if self.ended_s is not None:
            return
        agenda, record = self.site.agenda, self.site.record
        self._client.now_s = agenda.now_s
        committed = self._folder.list_committed(record)
        shards = self.site.job.plan.shards
        missing = tuple(shard for shard in shards if shard.index not in committed) if committed else shards
        self._claims = Claims(
            self._folder, record, lambda: max(self._client.now_s, agenda.now_s), self.ticket
        )
        self._view = View(self._claims, self._wake, self._claims.own)
        self._crew = SimulatedCrew(agenda, self.pace, self._commit, self._turn)
        order: Any = None  # workers are told nothing: these have no program
        cores = tuple(Core(index) for index in range(self.cores))
        self._supervisor = Supervisor(
            order, cores, self._hear, lambda: self._is_stopped, self._view, self._crew
        )
        self._handout = self._supervisor.begin(missing)
        self._keep_up()

    def _keep_up(self) -> None:
        """What the thread of the claims does, and what it rests."""
        agenda = self.site.agenda
        if self.ended_s is not None or agenda.now_s < self._look_at_s < float("inf"):
            return
        self._client.now_s = agenda.now_s
        pause_s = self._claims.keep_up()
        self._looked_s = self._client.now_s
        agenda.at(self._looked_s, self._see)
        self._plan_look(self._looked_s + max(pause_s, self._claims.least_rest_s))

    def _plan_look(self, time_s: float) -> None:
        self._look_at_s = time_s
        self.site.agenda.at(time_s, self._keep_up)

    def _wake(self) -> None:
        """Something is to be told: rest no longer than must be."""
        soon_s = max(self.site.agenda.now_s, self._looked_s + self._claims.least_rest_s)
        if self._claims.has_news and soon_s < self._look_at_s:
            self._plan_look(soon_s)

    def _see(self) -> None:
        if self._view.refresh():
            self._turn()

    def _turn(self) -> None:
        """The supervisor's turn."""
        if self.ended_s is not None:
            return
        if not self._supervisor.turn(self._handout):
            self._finish()
            return
        is_waiting = len(self._handout) > 0 and any(not hand.held for hand in self._crew.hands)
        if is_waiting and not self._is_polling:
            self._is_polling = True
            self.site.agenda.at(self.site.agenda.now_s + _POLL_S, self._poll)

    def _poll(self) -> None:
        self._is_polling = False
        self._turn()

    def _hear(self, event: Event) -> None:
        if not isinstance(event, PartDone):
            return
        self._claims.note(event)
        self._wake()
        now_s = self.site.agenda.now_s
        if now_s - self._saved_s > _PROGRESS_EVERY_S:  # what it has done so far, as `run` saves it
            self._saved_s = now_s
            self._ask("HEAD", "PUT")

    def _commit(self, index: int) -> tuple[bool, float]:
        """Commit a part by way of the run folder: whether it was the first, and when the answer is there."""
        record, client = self.site.record, Client(self.site.bucket, self.site.agenda.now_s)
        part = WrittenPart(Path("none"), 1 << 20, "", {FINGERPRINT_KEY: record.fingerprint})
        folder = SimulatedFolder(client)
        created = folder.commit_part(record, self.site.job.plan.shards[index], part)
        if created:
            folder.note_commit(record, part_name(record, index), client.now_s)
        return created, client.now_s

    def _notice(self) -> None:
        """SIGTERM: nothing more is handed out; what is in hand may be finished until the machine is gone."""
        self._is_stopped = True
        self.site.agenda.at(self.site.agenda.now_s + self.fate.notice_s, self._lose)
        if self._look_at_s < float("inf"):
            self._turn()

    def _lose(self) -> None:
        if self.ended_s is None:
            for hand in self._crew.hands if self._look_at_s < float("inf") else ():
                hand.kill()
            self._end()

    def _end(self) -> None:
        self.ended_s, self.was_lost = self.site.agenda.now_s, True
        self.on_lost(self)

    def _finish(self) -> None:
        """Take the lease away, and list all parts: the run is over, or this machine is."""
        agenda = self.site.agenda
        self._client.now_s = agenda.now_s
        self._claims.leave()
        if self._is_stopped:
            self._end()
            return
        self._folder.list_committed(self.site.record)
        self.ended_s = self._client.now_s

    def _ask(self, *kinds: str) -> None:
        for kind in kinds:
            self.site.bucket.answer(kind, self.site.agenda.now_s)
