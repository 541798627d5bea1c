"""Ticket: what a runner is told that was started together with others.

AWS Batch numbers the children of an array job in two variables of their environment (Batch user guide:
"Array jobs"); other schedulers have theirs, and `--slice` takes them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_INDEX = "AWS_BATCH_JOB_ARRAY_INDEX"
_SIZE = "AWS_BATCH_JOB_ARRAY_SIZE"
_ATTEMPT = "AWS_BATCH_JOB_ATTEMPT"


@dataclass(frozen=True, slots=True)
class Portion:
    """One of several equal portions of a plan's shards: what a runner does before it helps the others.

    Neighbours, not every eighth shard: a reader then goes straight through the files.
    """

    number: int
    """From 0."""
    count: int

    def find_range(self, shards: int) -> range:
        """The shards in it, of so many; all portions together are all shards, each once."""
        return range(self.number * shards // self.count, (self.number + 1) * shards // self.count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """How a runner takes part in a run; by default alone, and as it finds things."""

    portion: Portion | None = None
    """What it does first; None: whatever is free."""
    plan: str | None = None
    """File of a plan that was put into the run folder before; None: the first runner makes one."""
    attempt: int = 1
    """How often its scheduler has started it."""

    @property
    def name(self) -> str:
        """`3/8`, `3/8, attempt 2`: for whoever looks at the run; empty for a runner that has no number."""
        if self.portion is None:
            return ""
        return f"{self.portion}, attempt {self.attempt}" if self.attempt > 1 else str(self.portion)


def parse_portion(text: str) -> Portion:
    """The portion that `3/8` names.

    Raises:
        ValueError: it names none.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or int(match[1]) >= int(match[2]):
        raise ValueError(f"'{text}' is no slice: of 8, the first is 0/8 and the last is 7/8")
    return Portion(int(match[1]), int(match[2]))


def find_portion() -> Portion | None:
    """This child's portion of an array job of AWS Batch; None: this process is no such child."""
    index, size = os.environ.get(_INDEX, ""), os.environ.get(_SIZE, "")
    if not (index.isdecimal() and size.isdecimal() and int(index) < int(size)):
        return None
    return Portion(int(index), int(size))


def find_attempt() -> int:
    """How often AWS Batch has started this job, counted from 1; 1 elsewhere."""
    attempt = os.environ.get(_ATTEMPT, "")
    return int(attempt) if attempt.isdecimal() and int(attempt) > 0 else 1
