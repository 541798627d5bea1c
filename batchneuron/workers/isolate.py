"""Isolate: which row of a shard kills its workers, found with few deaths.

Pure: a case and a death give the next case, or the reason to stop. A trial lets a range of suspects run
alone, in the same static shape, filled with copies of one of them. One that survives costs a batch; one
that dies costs a worker, which is thousands of times dearer. So suspects are not halved: they are cut into
about √n ranges, and a range that dies into single rows. A row that kills then costs two workers, whatever
the batch, beside those that died before anyone was suspected.

A row is only ever found guilty when it has died with no other row beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt
from typing import cast

from batchneuron.rejection import Code, Rejection
from batchneuron.workers.case import Case, Suspects
from batchneuron.workers.pulse import Place

MAX_ATTEMPTS = 3
"""Workers that may die, or fail, over a shard without a row being found."""
MAX_FOUND = 8
"""Rows of one shard that may kill their workers; more are no accident of the data."""
_ONE_BY_ONE = 4  # up to so many suspects, ranges would save no trial
_CRASH = "worker_crash"
_BY_CHANCE = "out_of_memory"  # a SIGKILL may have hit this worker for another process's greed
_STAGES = {"encode": "encoding", "execute": "batch", "decode": "decoding"}
_ALL_FAILED = f"{MAX_ATTEMPTS} attempts have failed"

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Death:
    """How an attempt at a shard ended."""

    place: Place
    """Where the worker was; without a stage: nobody knows."""
    code: str
    """A rejection's `Code`, if it should turn out to be a row's fault; empty: it cannot be."""
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a death means for its shard."""

    case: Case
    """What the next worker is to know."""
    found: Rejection | None = None
    """The row that did it."""
    hopeless: str = ""
    """Why there shall be no next worker; empty: there shall."""
    is_datas_fault: bool = False
    """Whether it is hopeless because of too many rows."""
    is_files_fault: bool = False
    """Whether it is hopeless because nobody can read it and live."""


def judge(case: Case, death: Death) -> Verdict:
    """What to do after a death over a shard: try again, try a part of it, reject a row, or stop."""
    place, suspects = death.place, case.suspects
    if suspects is not None and _is_trial(suspects, place):
        return _judge_trial(case, suspects, death)
    if place.stage == "read" and death.code == _CRASH:
        return _judge_reading(case, death)
    case = replace(case, deaths=case.deaths + 1, suspects=None)
    can_be_a_row = bool(death.code) and place.stage in _STAGES and place.size > 0
    # The first death may have been chance: it costs a second worker to be surer.
    if can_be_a_row and (case.deaths > 1 or case.found):
        if place.row >= 0:  # nothing else is in the batch, which is as good as a trial
            return _judge_trial(case, Suspects(place.stage, place.batch, ((place.lo, place.hi),)), death)
        suspects = Suspects(place.stage, place.batch, _split(0, place.size))
        if case.deaths < MAX_ATTEMPTS:
            return Verdict(replace(case, suspects=suspects))
        return Verdict(case, hopeless=f"{_ALL_FAILED}, the last in {_name(place)}, and no row is why")
    if case.deaths < MAX_ATTEMPTS:
        return Verdict(case)
    return Verdict(case, hopeless=_ALL_FAILED)


def _judge_reading(case: Case, death: Death) -> Verdict:
    """A crash in a reader: of the shard, for no row has been seen; a worker may pass the shard over."""
    case = replace(case, read_deaths=(*case.read_deaths, death.message), suspects=None)
    is_over = len(case.read_deaths) == MAX_ATTEMPTS
    return Verdict(case, hopeless=_ALL_FAILED if is_over else "", is_files_fault=is_over)


def _is_trial(suspects: Suspects, place: Place) -> bool:
    return (suspects.stage, suspects.batch) == (place.stage, place.batch) and (
        place.lo,
        place.hi,
    ) in suspects.ranges


def _judge_trial(case: Case, suspects: Suspects, death: Death) -> Verdict:
    """A range died on its own: cut it up, or take its only row."""
    place = death.place
    died = (place.lo, place.hi)
    left = suspects.ranges[suspects.ranges.index(died) + 1 :]  # those before it have passed
    if place.row < 0:
        parts = _split(*died, step=1) + left
        return Verdict(replace(case, suspects=replace(suspects, ranges=parts, is_confirming=False)))
    is_confirmed = suspects.is_confirming and suspects.ranges[0] == died
    if death.code == _BY_CHANCE and not is_confirmed:
        again = replace(suspects, ranges=(died, *left), is_confirming=True)
        return Verdict(replace(case, suspects=again))
    message = f"{death.message}, on this row alone"
    found = Rejection(place.row, cast(Code, death.code), message)
    case = replace(
        case,
        deaths=0,
        suspects=replace(suspects, ranges=left, is_confirming=False),
        unreadable=case.unreadable + ((found,) if place.stage == "encode" else ()),
        deadly=case.deadly + ((found,) if place.stage != "encode" else ()),
    )
    too_many = f"{case.found} rows of it have each killed a worker, alone in their batch"
    is_too_many = case.found > MAX_FOUND
    return Verdict(case, found, too_many if is_too_many else "", is_too_many)


def _split(lo: int, hi: int, step: int = 0) -> tuple[Range, ...]:
    """Ranges of so many; of about √n where nothing is said, and single ones where there are few."""
    count = hi - lo
    step = step or (1 if count <= _ONE_BY_ONE else isqrt(count - 1) + 1)
    return tuple((begin, min(begin + step, hi)) for begin in range(lo, hi, step))


def _name(place: Place) -> str:
    return f"{_STAGES[place.stage]} {place.batch}" if place.batch >= 0 else _STAGES[place.stage]
