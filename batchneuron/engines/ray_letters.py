"""What an actor and the driver tell each other beside shards and events, and the actor's box of it.

The driver fetches: a fetch waits until there is something, and brings all of it at once, so that a
thousand actors ask the driver for less than a thousand answers a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from batchneuron.sources.source import FileId
from batchneuron.workers.events import BatchDone, Event
from batchneuron.workers.pulse import Place

MODEL = "model"
"""The name of the model's files among those that a node may want; an artifact's is its key."""
_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Placed:
    """The actor's process runs: where."""

    node: str
    """Ray's id of the node."""
    host: str
    process: int
    pulse: str
    """The file that its pulse is in, on that node."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files that the driver has, and this node has not."""

    name: str


@dataclass(frozen=True, slots=True)
class Berth:
    """What an actor must know beside the work order: how the driver sees the world."""

    folder: str
    """The driver's current one, which relative paths of the spec are meant from."""
    facts: Mapping[str, JsonValue]
    """Versions and backend, as `describe_node` tells them."""
    model_files: Sequence[tuple[str, int, int]]
    """Name, size and time of each file of the model."""
    probe: FileId | None
    """An input file, to find out whether this node sees it; None: there is none."""
    node_units: int = 1
    """Actors that the node has room for, which share its CPUs."""
    call: Callable[..., Any] | None = None
    """What is to be done instead of shards; it takes the order as this node has it."""


Parcel = Mapping[str, Any]
"""References to the contents of files in Ray's object store, by path within their folder."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What the call of a berth gave: its result, or a failure."""

    result: Any


Told = Event | Wanted | Returned


@dataclass(frozen=True, slots=True)
class Letter:
    """What one fetch brings."""

    told: Sequence[Told]
    is_last: bool
    """The actor's work is over."""
    beats: int = 0
    """Of its pulse."""
    places: Sequence[Place] = ()


class Outbox:
    """Events of an actor that wait to be fetched."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._told: list[Told] = []
        self._tokens = 0
        self._is_closed = False

    def put(self, told: Told) -> None:
        """Tell something; finished batches are added up, and wait for a fetch that comes anyway."""
        with self._changed:
            if isinstance(told, BatchDone):
                self._tokens += told.tokens
                return
            self._told.append(told)
            self._changed.notify_all()

    def close(self) -> None:
        """Tell that nothing more will come."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def fetch(self, wait_s: float = _WAIT_S) -> Letter:
        """All that was told since the last fetch, once there is something, or after a while."""
        with self._changed:
            self._changed.wait_for(lambda: self._told or self._is_closed, wait_s)
            told, tokens = self._told, self._tokens
            self._told, self._tokens = [], 0
            batches: list[Told] = [BatchDone(tokens)] if tokens else []
            return Letter([*batches, *told], self._is_closed)
