"""Leases: believed for as long as they change, by the observer's own clock, and never in the way."""

import os
from dataclasses import replace

import pytest

from batchneuron.ledger.lease import DEAD_AFTER_S, RENEW_S, Claims, Lookout
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_record import Lease
from batchneuron.stores import scratch
from batchneuron.stores.local import LocalStore
from batchneuron.stores.scratch import name_host
from batchneuron.workers.events import PartDone, StageSeconds
from tests.ledger.parts import FINGERPRINT, PLAN, commit

ELSEWHERE = Lease("a", 1, (3, 4), "another-host", 1)
DEAD_PID = 2**22 + 1  # above the kernel's limit


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return RunFolder(LocalStore(tmp_path / "out"))


@pytest.fixture
def record(folder):
    return folder.create_run(FINGERPRINT, PLAN, {})


def part_of(index, *, created=True, seconds=1.0):
    return PartDone(index, 1, 0, 0, 1, 1, 1, "", created, StageSeconds(seconds))


@pytest.fixture
def listings(folder, monkeypatch):
    """How often the parts were listed."""
    counted, list_committed = [], RunFolder.list_committed
    monkeypatch.setattr(
        RunFolder,
        "list_committed",
        lambda self, record: counted.append(None) or list_committed(self, record),
    )
    return counted


@pytest.mark.case(29)
def test_a_lease_dies_when_it_has_not_changed_for_three_periods_of_the_observer(clock):
    lookout = Lookout(clock)
    assert lookout.find_live([ELSEWHERE]) == (ELSEWHERE,)

    clock.now_s += DEAD_AFTER_S - 1
    assert lookout.find_live([ELSEWHERE]) == (ELSEWHERE,)
    clock.now_s += 2
    assert lookout.find_live([ELSEWHERE]) == ()

    changed = replace(ELSEWHERE, beat=2)
    assert lookout.find_live([changed]) == (changed,)


@pytest.mark.case(29)
def test_whoever_begins_to_look_believes_an_old_lease_at_first(clock):
    Lookout(clock).find_live([ELSEWHERE])
    clock.now_s += 10 * DEAD_AFTER_S

    assert Lookout(clock).find_live([ELSEWHERE]) == (ELSEWHERE,)


def test_a_lease_of_a_process_of_this_host_that_is_gone_is_dead_at_once(clock):
    here = replace(ELSEWHERE, host=name_host(), pid=os.getpid())

    assert Lookout(clock).find_live([here, replace(here, slot="b", pid=DEAD_PID)]) == (here,)


def test_a_process_of_another_container_with_this_hosts_name_may_live(clock, tmp_path, monkeypatch):
    """Process numbers are a container's own: another's process 7 is not this one's."""
    here = replace(ELSEWHERE, host=name_host(), pid=DEAD_PID)
    monkeypatch.setattr(scratch, "_PID_NAMESPACE", tmp_path)

    assert Lookout(clock).find_live([here]) == (here,)


def test_runners_see_what_the_others_hold_and_what_is_done(folder, record, clock):
    one, two = (Claims(folder, record, clock) for _ in range(2))
    one.look()
    assert (one.held, one.others, one.done) == (frozenset(), 0, frozenset())
    for index in (0, 1):
        one.take(index)
    one.look()
    two.take(3)
    two.look()

    assert (two.held, two.others) == ({0, 1}, 1)
    commit(folder, record, 0)
    one.note(part_of(0))
    one.look()
    two.look()
    one.look()
    assert (two.held, two.done) == ({1}, {0})
    assert (one.held, one.done) == ({3}, {0})


def test_what_others_did_who_came_and_went_is_seen_at_the_first_look_and_not_asked_for_again(
    folder, record, clock, listings
):
    """Between the plan and the first shard there may be minutes of compiling."""
    commit(folder, record, 1)
    claims = Claims(folder, record, clock)
    for _ in range(3):
        claims.keep_up()
        clock.now_s += RENEW_S

    assert (claims.done, claims.others) == ({1}, 0)
    assert len(listings) == 1


def test_whoever_finds_a_part_there_looks_for_others_though_nobody_holds_a_lease(
    folder, record, clock, listings
):
    claims = Claims(folder, record, clock)
    claims.keep_up()
    for index in (0, 1):
        commit(folder, record, index)
    claims.note(part_of(0, created=True))
    claims.keep_up()
    assert claims.done == frozenset()

    claims.note(part_of(1, created=False))
    claims.keep_up()

    assert claims.done == {0, 1}
    assert len(listings) == 2


def test_a_listing_that_fails_is_done_again(folder, record, clock, monkeypatch):
    commit(folder, record, 1)
    claims = Claims(folder, record, clock)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "list_committed", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            claims.look()
    claims.look()

    assert claims.done == {1}


def test_a_lease_is_renewed_each_period_even_if_nothing_changes(folder, record, clock):
    claims = Claims(folder, record, clock)
    claims.look()
    before = folder.read_leases(record)
    clock.now_s += RENEW_S - 1
    claims.look()
    assert folder.read_leases(record) == before
    clock.now_s += 2
    claims.look()

    assert folder.read_leases(record) == (replace(before[0], beat=2),)


def test_patience_lasts_while_parts_appear_and_as_long_as_one_takes_here(folder, record, clock):
    claims = Claims(folder, record, clock)
    claims.note(part_of(0, seconds=2 * RENEW_S))
    assert not claims.is_patience_over()
    clock.now_s += 2 * RENEW_S - 1
    assert not claims.is_patience_over()

    claims.done = frozenset({1})
    clock.now_s += RENEW_S
    assert not claims.is_patience_over()
    clock.now_s += 2 * RENEW_S
    assert claims.is_patience_over()


def test_leases_of_an_overwritten_run_do_not_count_and_its_runner_notices(folder, record, clock):
    old = Claims(folder, record, clock)
    old.take(2)
    old.look()
    assert not old.is_overwritten

    new_record = folder.replace_run(record, record, PLAN)
    new = Claims(folder, new_record, clock)
    new.look()
    old.look()

    assert (new.held, new.others) == (frozenset(), 0)
    assert old.is_overwritten


def test_the_thread_keeps_the_lease_and_takes_it_away_in_the_end(folder, record, monkeypatch):
    monkeypatch.setattr("batchneuron.ledger.lease._LOOK_EVERY_S", 0.01)
    with Claims(folder, record) as claims:
        claims.take(2)
        claims.note(part_of(1, created=False))
        while folder.read_leases(record)[0].shards != (2,):
            pass

    assert folder.read_leases(record) == ()


def test_advisory_files_that_cannot_be_read_or_written_stop_nobody(folder, record, monkeypatch):
    monkeypatch.setattr("batchneuron.ledger.lease._LOOK_EVERY_S", 0.01)
    with Claims(folder, record) as claims:
        folder.store.replace_bytes(f".batchneuron/leases/{record.run8}-bad.json", b"\x00")
        (folder.store.root / ".batchneuron/run.json").write_bytes(b"{")
        claims._wake.set()
        claims._thread.join(0.2)

        assert claims._thread.is_alive()


def test_what_is_taken_is_told_at_once_and_the_others_are_looked_at_in_their_own_time(folder, record, clock):
    one, two = (Claims(folder, record, clock) for _ in range(2))
    one.keep_up()
    two.take(3)
    two.keep_up()
    assert (two.others, one.others) == (1, 0)

    one.take(1)
    assert one.has_news
    pause_s = one.keep_up()
    assert not one.has_news and 0.0 < pause_s <= RENEW_S
    told = {lease.slot: lease.shards for lease in folder.read_leases(record)}
    assert told == {one.slot: (1,), two.slot: (3,)}
    assert one.others == 0

    clock.now_s += pause_s
    one.keep_up()
    assert (one.others, one.held) == (1, {3})


def test_the_more_runners_the_longer_they_rest(folder, record, clock):
    claims = Claims(folder, record, clock)
    claims.keep_up()
    few = claims.least_rest_s
    for number in range(100):
        lease = replace(ELSEWHERE, slot=f"{number:012x}", shards=())
        folder.write_lease(record, lease)
    clock.now_s += 2.0
    assert claims.keep_up() >= 10.0  # 100 runners, 100 leases each: 1,000 reads a second
    assert claims.others == 100 and claims.least_rest_s > few


def test_a_lease_that_is_left_is_gone(folder, record, clock):
    claims = Claims(folder, record, clock)
    claims.take(1)
    claims.keep_up()
    claims.leave()

    assert folder.read_leases(record) == ()
