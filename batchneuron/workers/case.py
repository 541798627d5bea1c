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
    """Since a row was found, those of trials and of reading not counted."""
    read_deaths: tuple[str, ...] = ()
    """What was said of workers that crashed as they read the shard: which row did it, nobody knows."""

    @property
    def found(self) -> int:
        """Rows that are known to kill a worker."""
        return len(self.unreadable) + len(self.deadly)

    @property
    def is_deadly_to_read(self) -> bool:
        """Whether it is sure enough: one crash may have been chance."""
        return len(self.read_deaths) > 1

    def ranges_of(self, stage: str) -> tuple[tuple[int, int], ...]:
        """What is to be tried in a stage."""
        return self.suspects.ranges if self.suspects is not None and self.suspects.stage == stage else ()


NO_CASE = Case()
_NAMED_FILES = 3
_LOST = "reading it has failed twice: "
_DEADLY: frozenset[str] = frozenset({"worker_crash", "worker_hang", "out_of_memory"})


def tell_lost(shard: Shard, case: Case) -> str:
    """Why none of a shard's rows are read, for each of them."""
    return f"{name_files(shard)}: {_LOST}{case.read_deaths[-1]}"


def name_files(shard: Shard) -> str:
    """The files that a shard's rows are in; of many, some."""
    names = list(dict.fromkeys(piece.file.uri for piece in shard.slices))
    more = f" and {len(names) - _NAMED_FILES} more" if len(names) > _NAMED_FILES else ""
    return ", ".join(names[:_NAMED_FILES]) + more


def recall_case(errors: Sequence[Mapping[str, str] | None]) -> Case:
    """The case of a shard that is done, from its rows' errors: what must not be touched again."""
    first = errors[0] if errors else None
    if first is not None and first["code"] == "bad_file" and _LOST in first["message"]:
        return Case(read_deaths=(first["message"].partition(_LOST)[2],) * 2)
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
