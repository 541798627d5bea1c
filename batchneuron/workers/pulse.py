"""The pulse: where in its shards a worker is, in memory that outlives the worker.

Each of its three threads writes its place before it begins something, into a lane of its own: one packed
record, no lock, no message. The supervisor reads the lanes of a worker that has died, to know what it died
of, and those of a living one, to see that it goes on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

Stage = Literal["", "read", "encode", "execute", "decode", "finish"]
_STAGES: tuple[Stage, ...] = ("", "read", "encode", "execute", "decode", "finish")
_RECORD = struct.Struct("=8q")
READING, COMPUTING, FINISHING = LANES = range(3)
"""The lanes: one for the thread that reads and encodes, one for the device, one for what follows."""
PULSE_BYTES = len(LANES) * _RECORD.size


@dataclass(frozen=True, slots=True)
class Place:
    """What a thread has in its hands."""

    shard: int = -1
    stage: str = ""
    """A `Stage`; empty: nothing, or nobody knows."""
    batch: int = -1
    """Of the shard, in the order they run; -1: the stage takes the shard as a whole."""
    lo: int = 0
    hi: int = 0
    """Slots `lo` to `hi` of the batch, or those rows of the shard; all the others are left out."""
    size: int = 0
    """Rows that the batch was gathered with, or rows of the shard."""
    row: int = -1
    """Place in the shard of the only row in hand; -1: there are several."""


NOWHERE = Place()


class Pulse:
    """The lanes of one worker, over memory that is shared with its supervisor or is not."""

    def __init__(self, cells: Any = None) -> None:
        self._cells = bytearray(PULSE_BYTES) if cells is None else cells
        self._beats = [0 for _ in LANES]
        self._places = [NOWHERE for _ in LANES]

    def mark(self, lane: int, place: Place) -> None:
        """Write that the lane's thread goes there now."""
        self._places[lane] = place
        self._beats[lane] += 1
        _RECORD.pack_into(
            self._cells,
            lane * _RECORD.size,
            self._beats[lane],
            _STAGES.index(place.stage),
            place.shard,
            place.batch,
            place.lo,
            place.hi,
            place.size,
            place.row,
        )

    def rest(self, lane: int) -> Place:
        """Write that the lane has nothing in hand; gives the place where it was."""
        was = self._places[lane]
        self.mark(lane, NOWHERE)
        return was

    def read(self) -> tuple[Place, ...]:
        """Where the lanes are that have something in hand."""
        return tuple(place for _, place in self._records() if place.stage)

    def count_beats(self) -> int:
        """A number that grows for as long as any thread goes on."""
        return sum(beats for beats, _ in self._records())

    def _records(self) -> list[tuple[int, Place]]:
        records = []
        for lane in LANES:
            beats, stage, shard, *rest = _RECORD.unpack_from(self._cells, lane * _RECORD.size)
            records.append((beats, Place(shard, _STAGES[stage], *rest)))
        return records
