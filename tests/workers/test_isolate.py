"""Isolation against a brute-force oracle: rows that kill are found, all of them, and no others."""

import random
from dataclasses import dataclass, replace
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchneuron.workers.case import NO_CASE
from batchneuron.workers.isolate import MAX_ATTEMPTS, MAX_FOUND, Death, judge
from batchneuron.workers.pulse import NOWHERE, Place

CRASH = "worker_crash"
KILLED = "out_of_memory"


@dataclass
class SimulatedShard:
    """Rows in batches; some kill whoever encodes them, some whoever computes or decodes them."""

    batches: list[list[int]]
    encode_killers: frozenset[int] = frozenset()
    device_killers: frozenset[int] = frozenset()
    decode_killers: frozenset[int] = frozenset()

    @property
    def rows(self):
        return sum(map(len, self.batches))

    def attempt(self, case):
        """Where a fresh worker dies over it; None: it does not."""
        unreadable = {rejection.row for rejection in case.unreadable}
        holes = unreadable | {rejection.row for rejection in case.deadly}
        return (
            self._walk(case, "encode", self.encode_killers - unreadable)
            or self._execute(case, holes)
            or self._walk(case, "decode", self.decode_killers - holes)
        )

    def _walk(self, case, stage, killers):
        for lo, hi in (*case.ranges_of(stage), (0, self.rows)):
            if set(range(lo, hi)) & killers:
                return Place(0, stage, -1, lo, hi, self.rows, lo if hi - lo == 1 else -1)
        return None

    def _execute(self, case, holes):
        for lo, hi in case.ranges_of("execute"):
            place = self._run(case.suspects.batch, holes, (lo, hi))
            if place:
                return place
        return next(
            (place for number in range(len(self.batches)) if (place := self._run(number, holes))), None
        )

    def _run(self, number, holes, span=None):
        batch = self.batches[number]
        lo, hi = span or (0, len(batch))
        rows = [row for row in batch[lo:hi] if row not in holes]
        if not set(rows) & self.device_killers:
            return None
        return Place(0, "execute", number, lo, hi, len(batch), rows[0] if len(rows) == 1 else -1)


def isolate(shard, code=CRASH, company=1):
    """The case at the end, and the deaths on the way; of the first few nobody knows where they were."""
    case, deaths = NO_CASE, 0
    while (place := shard.attempt(case)) is not None:
        deaths += 1
        verdict = judge(case, Death(NOWHERE if deaths <= company else place, code, "it died"))
        assert not verdict.hopeless, verdict.hopeless
        case = verdict.case
    return case, deaths


def make_shard(sizes, encode_killers=(), device_killers=(), decode_killers=(), seed=0):
    rows = list(range(sum(sizes)))
    random.Random(seed).shuffle(rows)
    batches = [[rows.pop() for _ in range(size)] for size in sizes]
    killers = map(frozenset, (encode_killers, device_killers, decode_killers))
    return SimulatedShard(batches, *killers)


@st.composite
def poisoned_shards(draw):
    sizes = draw(st.lists(st.integers(1, 70), min_size=1, max_size=6))
    row = st.integers(0, sum(sizes) - 1)
    killers = draw(st.lists(row, unique=True, max_size=MAX_FOUND))
    one, two = sorted((draw(st.integers(0, len(killers))), draw(st.integers(0, len(killers)))))
    return make_shard(sizes, killers[:one], killers[one:two], killers[two:], draw(st.integers(0, 99)))


@given(poisoned_shards(), st.sampled_from([CRASH, KILLED]), st.integers(0, 1))
def test_every_row_that_kills_is_found_and_no_other(shard, code, company):
    case, deaths = isolate(shard, code, company)

    assert {rejection.row for rejection in case.unreadable} == shard.encode_killers
    assert {rejection.row for rejection in case.deadly} == shard.device_killers | shard.decode_killers
    assert {rejection.code for rejection in (*case.unreadable, *case.deadly)} <= {code}
    each = 4 if code == KILLED else 3
    assert deaths <= 1 + each * case.found


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 16, 64, 512, 4096])
@pytest.mark.parametrize("code", [CRASH, KILLED])
def test_one_row_of_a_batch_costs_at_most_log2_restarts(size, code):
    """After its first crash, until it is found; one more where a SIGKILL may have been chance."""
    worst = 0
    for row in {0, size // 3, size // 2, size - 1}:
        case, deaths = isolate(make_shard([size], device_killers=[row]), code)
        assert [rejection.row for rejection in case.deadly] == [row]
        worst = max(worst, deaths - 1)

    assert worst <= ceil(log2(size)) + 1 + (code == KILLED)
    assert worst <= 3 + (code == KILLED)


def test_a_row_is_taken_only_when_it_died_alone():
    seen = []

    class Watched(SimulatedShard):
        def _run(self, number, holes, span=None):
            place = super()._run(number, holes, span)
            seen.append(place)
            return place

    shard = make_shard([64, 64], device_killers=[5, 77])
    case, _ = isolate(Watched(shard.batches, frozenset(), shard.device_killers))

    alone = {place.row for place in seen if place is not None}
    assert {rejection.row for rejection in case.deadly} == {5, 77} == alone - {-1}


def test_a_single_kill_by_chance_rejects_nobody():
    """The machine's memory ran out for another process, in the middle of a trial of one row."""
    shard = make_shard([64], device_killers=[9])
    case, hit = NO_CASE, False
    for _ in range(20):
        place = shard.attempt(case)
        ranges = case.ranges_of("execute")
        if not hit and ranges and ranges[0][1] - ranges[0][0] == 1:
            hit, (lo, hi) = True, ranges[0]
            innocent = shard.batches[0][lo]
            place = Place(0, "execute", 0, lo, hi, 64, innocent)
        if place is None:
            break
        case = judge(case, Death(place, KILLED, "SIGKILL")).case

    assert hit
    assert [rejection.row for rejection in case.deadly] == [9]


def test_a_batch_that_kills_though_none_of_its_rows_does_ends_the_job():
    place = Place(0, "execute", 3, 0, 64, 64)
    case = NO_CASE
    verdicts = []
    for _ in range(MAX_ATTEMPTS):  # its trials all pass
        verdicts.append(judge(case, Death(place, CRASH, "it died")))
        case = verdicts[-1].case

    assert [bool(verdict.hopeless) for verdict in verdicts] == [False, False, True]
    assert "batch 3" in verdicts[-1].hopeless
    assert not verdicts[-1].is_datas_fault
    assert case.found == 0


def test_a_shard_that_is_all_poison_ends_the_job_soon():
    shard = make_shard([64] * 4, device_killers=range(256))
    case, deaths, verdict = NO_CASE, 0, None
    while verdict is None or not verdict.hopeless:
        deaths += 1
        verdict = judge(case, Death(shard.attempt(case), CRASH, "it died"))
        case = verdict.case

    assert verdict.is_datas_fault
    assert case.found == MAX_FOUND + 1
    assert deaths <= 3 + MAX_FOUND + 2


def test_a_shard_that_kills_its_readers_is_its_files_fault():
    """Where the first worker died nobody knows; a device that fails to answer is no crash."""
    reading = Place(0, "read", size=9)
    verdict = judge(NO_CASE, Death(NOWHERE, CRASH, "it died"))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert not verdict.hopeless
        verdict = judge(verdict.case, Death(reading, CRASH, f"it died {attempt}"))
        assert verdict.case.is_deadly_to_read is (attempt > 1)
    assert verdict.hopeless and verdict.is_files_fault

    for code in ("", KILLED, "worker_hang"):
        assert not judge(replace(NO_CASE, deaths=2), Death(reading, code, "slow")).is_files_fault


@pytest.mark.parametrize("place", [NOWHERE, Place(0, "read", size=9), Place(0, "finish", hi=9, size=9)])
def test_where_rows_cannot_be_told_apart_there_are_three_attempts(place):
    case = NO_CASE
    for attempt in range(1, MAX_ATTEMPTS + 1):
        verdict = judge(case, Death(place, CRASH, "it died"))
        case = verdict.case
        assert case.suspects is None
        assert bool(verdict.hopeless) == (attempt == MAX_ATTEMPTS)


def test_a_failure_that_is_no_rows_fault_never_suspects_one():
    case = replace(NO_CASE, deaths=1)

    assert (
        judge(case, Death(Place(0, "execute", 0, 0, 64, 64), "", "the device is odd")).case.suspects is None
    )
