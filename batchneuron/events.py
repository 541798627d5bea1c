"""What crosses the process border: small frozen records, never rows, models or exceptions."""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Where a shard's time went; stages overlap, so they add up to more than the clock."""

    encode_s: float
    execute_s: float
    finish_s: float


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


@dataclass(frozen=True, slots=True)
class ShardFailed:
    """One shard could not be done; the worker goes on with the next."""

    shard: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class WorkerBroken:
    """The worker could not start, and ends."""

    failure: Failure


Event = WorkerReady | BatchDone | PartDone | ShardFailed | WorkerBroken
