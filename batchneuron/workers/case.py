"""A case: what is known of a shard that has killed workers, and what its next worker is to try.

Travels with the shard, so that any worker of any engine can go on where the last one died.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from batchneuron.planning.plan import Shard
from batchneuron.rejection import Code, Rejection


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows or slots of which some kill a worker, in ranges that are to be tried one by one."""

    stage: str
    """`encode`, `decode`: ranges of the shard's rows. `execute`: ranges of a batch's slots."""
    batch: int
    """-1 but for `execute`."""
    ranges: tuple[tuple[int, int], ...]
    """From, and up to but not including; in the order they are to be tried."""
    is_confirming: bool = False
    """The first range is one row that has died once, of something that can hit a worker by chance."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the deaths over one shard have taught."""

    unreadable: tuple[Rejection, ...] = ()
    """Rows that kill whoever encodes them."""
    deadly: tuple[Rejection, ...] = ()
    """Rows that can be encoded, and kill whoever computes them, or decodes what came of them."""
    suspects: Suspects | None = None
    """To be tried before anything else."""
    deaths: int = 0
    """Since a row was found, those of trials not counted."""

    @property
    def found(self) -> int:
        """Rows that are known to kill a worker."""
        return len(self.unreadable) + len(self.deadly)

    def ranges_of(self, stage: str) -> tuple[tuple[int, int], ...]:
        """What is to be tried in a stage."""
        return self.suspects.ranges if self.suspects is not None and self.suspects.stage == stage else ()


NO_CASE = Case()
_DEADLY: frozenset[str] = frozenset({"worker_crash", "worker_hang", "out_of_memory"})


def recall_case(errors: Sequence[Mapping[str, str] | None]) -> Case:
    """The case of a shard that is done, from its rows' errors: what must not be touched again."""
    return Case(
        unreadable=tuple(
            Rejection(row, cast(Code, error["code"]), error["message"])
            for row, error in enumerate(errors)
            if error is not None and error["code"] in _DEADLY
        )
    )


@dataclass(frozen=True, slots=True)
class Assignment:
    """A shard, and what to beware of in it."""

    shard: Shard
    case: Case = NO_CASE
