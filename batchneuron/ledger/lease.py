"""Lease: what a runner says it has in hand, and what it makes of what the others say.

Saves work, protects nothing: a part is protected by its one atomic create. Whoever reads a lease believes
it for as long as its content changes, by his own monotonic clock; no two hosts' clocks are ever compared.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from batchneuron.errors import BatchNeuronError
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_record import Lease, RunRecord
from batchneuron.stores.scratch import is_alive, name_host
from batchneuron.workers.events import PartDone
from batchneuron.workers.ticket import Ticket

RENEW_S = 20.0
DEAD_AFTER_S = 3 * RENEW_S
"""Without a change of a lease's content; a frozen machine that wakes up later does no harm."""
_LOOK_EVERY_S = 1.0
_LEAST_REST_S = 0.1
_GOODBYE_S = 5.0
_LOOK_COSTS = 20
"""Between two looks the thread rests for so many times as long as one takes; a runner that waits, for one."""
_WRITES_PER_S = 500.0
_READS_PER_S = 1000.0
"""Leases written and files read by all runners together: S3 takes 3,500 and 5,500 requests a second."""


@dataclass(slots=True)
class Lookout:
    """Which leases change, as one observer sees them."""

    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[Lease, float]] = field(default_factory=dict)

    def find_live(self, leases: Iterable[Lease]) -> tuple[Lease, ...]:
        """Leases of runners that may live; one of this host whose process is gone is dead at once."""
        now_s = self.clock()
        seen = {}
        for lease in leases:
            before = self._seen.get(lease.slot)
            seen[lease.slot] = before if before is not None and before[0] == lease else (lease, now_s)
        self._seen = seen
        return tuple(
            lease for lease, since_s in seen.values() if now_s - since_s < DEAD_AFTER_S and not is_gone(lease)
        )


def is_gone(lease: Lease) -> bool:
    """Whether it is of a process of this host that is not there any more."""
    return lease.host == name_host() and not is_alive(lease.pid)


class Claims:
    """This runner's lease, renewed by a thread for as long as the context lasts, and what others hold."""

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        clock: Callable[[], float] = time.monotonic,
        ticket: Ticket | None = None,
    ) -> None:
        ticket = ticket or Ticket()
        self.slot = uuid.uuid4().hex[:12]
        self.own = ticket.portion.find_range(record.shards) if ticket.portion else range(0)
        """Shards that this runner does before all others."""
        self.done: frozenset[int] = frozenset()
        """Shards whose part was there, by anybody, at the last look; some of its own may be missing."""
        self.held: frozenset[int] = frozenset()
        """Shards that live runners other than this one have in hand."""
        self.others = 0
        """How many of them there are."""
        self.is_overwritten = False
        """Whether the folder is for another run by now."""
        self._folder, self._record, self._clock = folder, record, clock
        self._lookout = Lookout(clock)
        self._name = ticket.name
        self._hand: set[int] = set()
        self._lock = threading.Lock()
        self._told: tuple[float, tuple[int, ...]] | None = None
        self._beat = 0
        self._longest_shard_s = 0.0
        self._waits: tuple[frozenset[int], float] | None = None
        self._has_ended = False
        self._look_due_s = clock()
        self._is_waiting = False
        self._is_stale = True
        """Whether others may have made parts that it does not know: they may have come and gone."""
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")

    def __enter__(self) -> Self:
        self.keep_up()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._has_ended = True
        self._wake.set()
        self._thread.join(_GOODBYE_S)
        if (
            not self._thread.is_alive()
        ):  # else the store does not answer: others will see the lease stand still
            self.leave()

    def leave(self) -> None:
        """Take the lease away."""
        with contextlib.suppress(BatchNeuronError, OSError):
            self._hand.clear()
            self._renew()  # where nothing may be deleted, an empty lease is left
            self._folder.delete_lease(self._record, self.slot)

    def take(self, index: int) -> None:
        """This runner has the shard in hand; the others are told soon."""
        with self._lock:
            self._hand.add(index)
        self._is_waiting = False
        self._wake.set()

    def give_back(self, index: int) -> None:
        """It has it no more."""
        with self._lock:
            self._hand.discard(index)

    def note(self, part: PartDone) -> None:
        """It has done it; whoever finds that another was first walks in his tracks, and looks up at once."""
        self.give_back(part.shard)
        if not part.created:
            self._is_stale = True
            self._look_due_s = min(self._look_due_s, self._clock() + self._spare_s)
            self._wake.set()
        self._longest_shard_s = max(self._longest_shard_s, part.seconds.total_s)

    def is_patience_over(self) -> bool:
        """Whether to do what others hold: asked while nothing else is left.

        Not while their parts appear; then once none has appeared for as long as one takes here.
        """
        now_s = self._clock()
        self._is_waiting = True
        if self._waits is None or self._waits[0] is not self.done:
            self._waits = (self.done, now_s)
        return now_s - self._waits[1] >= max(RENEW_S, self._longest_shard_s)

    def look(self) -> None:
        """Renew the lease if it is time, and read those of the others."""
        self._renew()
        now = self._folder.read_run()
        self.is_overwritten = now is None or now.run8 != self._record.run8
        leases = self._folder.read_leases(self._record)
        live = self._lookout.find_live(lease for lease in leases if lease.slot != self.slot)
        if live or self.others or self._is_stale:
            self._list_done()
        self.held = frozenset(index for lease in live for index in lease.shards)
        self.others = len(live)

    def _list_done(self) -> None:
        self._is_stale = False  # before it looks: whatever turns up meanwhile is looked for again
        try:
            done = self._folder.list_committed(self._record)
        except BaseException:
            self._is_stale = True
            raise
        self.done = self.done if done == self.done else done

    def _renew(self) -> None:
        with self._lock:
            hand = tuple(sorted(self._hand))
        now_s = self._clock()
        if self._told is not None and self._told[1] == hand and now_s - self._told[0] < RENEW_S:
            return
        self._beat += 1
        lease = Lease(self.slot, self._beat, hand, name_host(), os.getpid(), self._name)
        self._folder.write_lease(self._record, lease)
        self._told = (now_s, hand)

    def keep_up(self) -> float:
        """Renew the lease if it is time, and look at the others' if it is; then s until there is more to do.

        A renewal costs two requests, a look as many as there are runners, and pages of parts: so a look has
        its own, longer time, and the more runners there are, the longer both.
        """
        self._wake.clear()
        with contextlib.suppress(BatchNeuronError, OSError):  # advisory: nothing of it stops the work
            self._renew()
        started_s = self._clock()
        if started_s >= self._look_due_s:
            with contextlib.suppress(BatchNeuronError, OSError):
                self.look()
            taken_s = self._clock() - started_s
            costs = 1 if self._is_waiting or self._is_scarce() else _LOOK_COSTS
            pause_s = max(_LOOK_EVERY_S, costs * taken_s, self._spare_s)
            self._look_due_s = self._clock() + pause_s
        return min(RENEW_S, max(0.0, self._look_due_s - self._clock()))

    def _is_scarce(self) -> bool:
        """Whether less is free than runners have in hand: soon they will meet."""
        in_hand = len(self.held) + len(self._hand)
        return self.others > 0 and self._record.shards - len(self.done) - in_hand < in_hand

    @property
    def has_news(self) -> bool:
        """Whether something has happened that the others should know soon, or that they may have done."""
        return self._wake.is_set()

    @property
    def least_rest_s(self) -> float:
        """Between two renewals, however fast shards are taken."""
        return max(_LEAST_REST_S, self.others / _WRITES_PER_S)

    @property
    def _spare_s(self) -> float:
        """Between two looks, if each runner reads what all the others say."""
        return self.others**2 / _READS_PER_S

    def _keep(self) -> None:
        """The thread."""
        pause_s = _LOOK_EVERY_S
        while not self._rest(pause_s):
            pause_s = self.keep_up()

    def _rest(self, pause_s: float) -> bool:
        """Whether it is over; shorter when there is something to tell, and never nothing."""
        time.sleep(self.least_rest_s)
        if not self._has_ended:  # set before the wake-up, which keep_up may have taken for another
            self._wake.wait(pause_s)
        return self._has_ended
