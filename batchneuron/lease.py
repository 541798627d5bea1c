"""Lease: what a runner says it has in hand, and what it makes of what the others say.

Saves work, protects nothing: a part is protected by its one atomic create. Whoever reads a lease believes
it for as long as its content changes, by his own monotonic clock; no two hosts' clocks are ever compared.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from batchneuron.errors import BatchNeuronError
from batchneuron.events import PartDone
from batchneuron.run_folder import RunFolder
from batchneuron.run_record import Lease, RunRecord
from batchneuron.stores.scratch import is_alive

RENEW_S = 20.0
DEAD_AFTER_S = 3 * RENEW_S
"""Without a change of a lease's content; a frozen machine that wakes up later does no harm."""
_LOOK_EVERY_S = 1.0
_LEAST_REST_S = 0.1
_GOODBYE_S = 5.0
_LOOK_COSTS = 20  # the thread rests for so many times as long as a look takes


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
            lease
            for lease, since_s in seen.values()
            if now_s - since_s < DEAD_AFTER_S and not _is_gone(lease)
        )


def _is_gone(lease: Lease) -> bool:
    return lease.host == socket.gethostname() and not is_alive(lease.pid)


class Claims:
    """This runner's lease, renewed by a thread for as long as the context lasts, and what others hold."""

    def __init__(
        self, folder: RunFolder, record: RunRecord, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.slot = uuid.uuid4().hex[:12]
        self.done: frozenset[int] = frozenset()
        """Shards whose part is there, by anybody; known once there are others."""
        self.held: frozenset[int] = frozenset()
        """Shards that live runners other than this one have in hand."""
        self.others = 0
        """How many of them there are."""
        self.is_overwritten = False
        """Whether the folder is for another run by now."""
        self._folder, self._record, self._clock = folder, record, clock
        self._lookout = Lookout(clock)
        self._hand: set[int] = set()
        self._lock = threading.Lock()
        self._told: tuple[float, tuple[int, ...]] | None = None
        self._beat = 0
        self._longest_shard_s = 0.0
        self._waits: tuple[frozenset[int], float] | None = None
        self._has_ended = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")

    def __enter__(self) -> Self:
        self._try_look()
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._has_ended = True
        self._wake.set()
        self._thread.join(_GOODBYE_S)
        if self._thread.is_alive():  # the store does not answer: others will see that the lease stands still
            return
        with contextlib.suppress(BatchNeuronError, OSError):
            self._hand.clear()
            self._renew()  # where nothing may be deleted, an empty lease is left
            self._folder.delete_lease(self._record, self.slot)

    def take(self, index: int) -> None:
        """This runner has the shard in hand; the others are told soon."""
        with self._lock:
            self._hand.add(index)
        self._wake.set()

    def give_back(self, index: int) -> None:
        """It has it no more."""
        with self._lock:
            self._hand.discard(index)

    def note(self, part: PartDone) -> None:
        """It has done it; whoever finds that another was first walks in his tracks, and looks up at once."""
        self.give_back(part.shard)
        if not part.created:
            self._wake.set()
        self._longest_shard_s = max(self._longest_shard_s, part.seconds.total_s)

    def is_patience_over(self) -> bool:
        """Whether to do what others hold: asked while nothing else is left.

        Not while their parts appear; then once none has appeared for as long as one takes here.
        """
        now_s = self._clock()
        if self._waits is None or self._waits[0] != self.done:
            self._waits = (self.done, now_s)
        return now_s - self._waits[1] >= max(RENEW_S, self._longest_shard_s)

    def look(self) -> None:
        """Renew the lease if it is time, and read those of the others."""
        self._renew()
        now = self._folder.read_run()
        self.is_overwritten = now is None or now.run8 != self._record.run8
        leases = self._folder.read_leases(self._record)
        live = self._lookout.find_live(lease for lease in leases if lease.slot != self.slot)
        if live or self.others or self.done:
            self.done = self._folder.list_committed(self._record)
        self.held = frozenset(index for lease in live for index in lease.shards)
        self.others = len(live)

    def _renew(self) -> None:
        with self._lock:
            hand = tuple(sorted(self._hand))
        now_s = self._clock()
        if self._told is not None and self._told[1] == hand and now_s - self._told[0] < RENEW_S:
            return
        self._beat += 1
        lease = Lease(self.slot, self._beat, hand, socket.gethostname(), os.getpid())
        self._folder.write_lease(self._record, lease)
        self._told = (now_s, hand)

    def _keep(self) -> None:
        """The thread."""
        pause_s = _LOOK_EVERY_S
        while not self._rest(pause_s):
            started_s = time.monotonic()
            self._try_look()
            pause_s = max(_LOOK_EVERY_S, _LOOK_COSTS * (time.monotonic() - started_s))
            pause_s = min(pause_s, RENEW_S)

    def _try_look(self) -> None:
        """Nothing that happens to an advisory file stops the work."""
        with contextlib.suppress(BatchNeuronError, OSError):
            self.look()

    def _rest(self, pause_s: float) -> bool:
        """Whether it is over; shorter when there is something to tell, and never nothing."""
        time.sleep(_LEAST_REST_S)
        self._wake.wait(pause_s)
        self._wake.clear()
        return self._has_ended
