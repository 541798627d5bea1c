"""What crosses the process border: small frozen records, never rows, models or exceptions."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from batchneuron.workers.pulse import NOWHERE, Place


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker has loaded its executables and waits for shards."""

    load_s: float


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A batch came back from the device."""

    tokens: int


@dataclass(frozen=True, slots=True)
class PartDone:
    """A shard's part is committed."""

    shard: int
    rows: int
    rejected: int
    truncated: int
    tokens: int
    slots: int
    size_bytes: int
    sha256: str
    created: bool
    """False: another runner had committed the same part first."""
    seconds: StageSeconds
    throttled: int = 0
    """Answers that asked to slow down while it was committed."""
    is_uniform: bool = False
    """All predictions are the same, of inputs that are not."""


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Where a shard's time went; stages overlap, so they add up to more than the clock."""

    read_s: float = 0.0
    encode_s: float = 0.0
    pad_s: float = 0.0
    device_s: float = 0.0
    decode_s: float = 0.0
    write_s: float = 0.0
    """Committing included."""

    @property
    def total_s(self) -> float:
        """All stages, one after the other."""
        total: float = sum(astuple(self))
        return total

    def __add__(self, other: StageSeconds) -> StageSeconds:
        """Both together, stage by stage."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return StageSeconds(*(mine + theirs for mine, theirs in pairs))


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as plain values: what the supervisor needs to decide, and the user to understand."""

    error: str
    """Class name."""
    message: str
    exit_code: int
    retryable: bool
    traceback: str
    retires_core: bool = False
    """The worker's core must not be used again in this run."""
    code: str = ""
    """A rejection's code, should it be the fault of a row; empty: it is not."""


@dataclass(frozen=True, slots=True)
class ShardFailed:
    """One shard could not be done; the worker goes on with the next."""

    shard: int
    failure: Failure
    place: Place = NOWHERE
    """Where in the shard."""


@dataclass(frozen=True, slots=True)
class WorkerBroken:
    """The worker could not start, and ends."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class CoreRetired:
    """A core gets no more work in this run; told by the supervisor, not by a worker."""

    core: int
    why: str


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker died or was ended in the middle of its work; told by the supervisor, as all below."""

    core: int
    why: str


@dataclass(frozen=True, slots=True)
class RowIsolated:
    """A row was found to be what kills workers: it is rejected, and its shard done without it."""

    shard: int
    row: int
    """Its ordinal in the source."""
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RoomAwaited:
    """No worker has found room on the cluster for some time; told by the engine."""

    needs: str
    """What each asks for, and what there is."""


@dataclass(frozen=True, slots=True)
class OthersSeen:
    """What other runners of the same run do of the work that was left for this one."""

    rows_done: int = 0
    """Rows of the parts that they have made."""
    awaited: int = 0
    """Shards in their hands that this runner waits for, having nothing else to do."""


Event = (
    WorkerReady
    | BatchDone
    | PartDone
    | ShardFailed
    | WorkerBroken
    | CoreRetired
    | WorkerLost
    | RowIsolated
    | RoomAwaited
    | OthersSeen
)
