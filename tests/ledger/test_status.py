"""Status: what a folder alone tells of a run: pace, who works, who fell silent."""

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from batchneuron.cli import main
from batchneuron.errors import DataError, Incomplete
from batchneuron.ledger.run_folder import RunFolder, draft_run
from batchneuron.ledger.run_names import DATA, LEASES, LEDGER, RUN
from batchneuron.ledger.run_record import Lease
from batchneuron.ledger.status import follow_run, measure_pace, read_status
from batchneuron.showing.render_status import render_line, render_status
from batchneuron.stores.local import LocalStore
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.scratch import name_host
from tests.ledger.parts import FINGERPRINT, PLAN, commit, finish

DEAD_PID = 2**22 + 1  # above the kernel's limit


@pytest.fixture
def folder(tmp_path):
    return RunFolder(LocalStore(tmp_path / "out"))


@pytest.fixture
def record(folder):
    return folder.create_run(FINGERPRINT, PLAN, {})


def make_old(path, age_s):
    os.utime(path, (time.time() - age_s,) * 2)


def take(folder, record, slot, *shards, age_s=0.0, name="", host="elsewhere", pid=7):
    lease = Lease(slot * 12, 1, shards, host, pid, name)
    folder.write_lease(record, lease)
    make_old(folder.store.root / LEASES / f"{record.run8}-{lease.slot}.json", age_s)


@pytest.mark.parametrize(
    ("parts", "pace"),
    [
        ([], None),
        ([(100, 3.0)], None),
        ([(100, 0.0), (100, 50.0), (70, 100.0)], 2.0),
        ([(100, 80.0), (100, 90.0), (70, 100.0)], 2.0),  # nothing for a while: it falls
        ([(100, 0.0), (100, 100.0), (10**6, 901.0)], 1.0),
        ([(100, 0.0), (100, 0.0)], None),
    ],
)
def test_the_pace_is_that_of_the_recent_parts(parts, pace):
    assert measure_pace(parts) == pace


def test_runners_at_work_and_silent_ones(folder, record):
    commit(folder, record, 0)
    take(folder, record, "a", 1, 2, name="0/8")
    take(folder, record, "b", 3, age_s=130, name="2/8, attempt 2")
    take(folder, record, "c", 0, age_s=999)  # what it held is done
    take(folder, record, "d", age_s=999)  # it ended, where nothing may be deleted
    take(folder, record, "e", 4, host=name_host(), pid=DEAD_PID)

    status = read_status(folder.store.location)

    assert [(each.name, each.shards, each.is_silent) for each in status.runners] == [
        ("0/8", 2, False), ("2/8, attempt 2", 1, True), ("", 1, True),
    ]  # fmt: skip
    text = render_status(status)
    assert "runners  1 runner with 2 shards in hand, 2 silent" in text
    assert "silent   2/8, attempt 2 on elsewhere, process 7, for 2:10 with 1 shard in hand" in text
    assert "pace not known yet" in text


def test_a_pace_is_told_while_somebody_works(folder, record):
    for index, age_s in ((0, 100.0), (1, 50.0), (2, 0.0)):
        commit(folder, record, index)
        make_old(next((folder.store.root / "data").glob(f"part-{index:05d}*")), age_s)
    resting = read_status(folder.store.location)
    take(folder, record, "a", 3)

    status = read_status(folder.store.location)

    rows = PLAN.shards[1].rows + PLAN.shards[2].rows
    left = PLAN.rows - sum(shard.rows for shard in PLAN.shards[:3])
    assert status.rows_per_s == pytest.approx(rows / 100, rel=0.05)
    assert status.left_s == pytest.approx(left / (rows / 100), rel=0.05)
    assert (resting.rows_per_s, resting.left_s) == (None, None)
    assert "nobody is at work" in render_line(resting)


def test_a_folder_that_was_only_submitted_to(folder):
    with pytest.raises(DataError):
        read_status(folder.store.location)
    folder.freeze(PLAN, b"{}")

    with pytest.raises(Incomplete, match="no runner has begun yet"):
        read_status(folder.store.location)


def test_following_a_run_from_before_it_begins_to_its_end(folder):
    folder.freeze(PLAN, b"{}")
    steps = [
        lambda: folder.create_run(FINGERPRINT, PLAN, {}),
        lambda: [commit(folder, folder.read_run(), shard.index) for shard in PLAN.shards],
        lambda: finish(folder, folder.read_run(), PLAN, {}),
    ]
    todo = iter(steps)

    seen = list(follow_run(folder.store.location, 1.0, lambda _: next(todo)()))

    lines = [render_line(status).split(",")[0] for status in seen]
    total = f"{len(PLAN.shards)} of {len(PLAN.shards)} shards"
    assert lines == ["no runner has begun yet", f"0 of {len(PLAN.shards)} shards", total, total]
    assert [status is not None and status.is_finished for status in seen] == [False, False, False, True]


def test_each_look_lists_the_parts_once_and_the_plan_is_read_at_the_first(folder, record, monkeypatch):
    listed, real_list = [], LocalStore.list
    reads, real_read = [], LocalStore.read
    monkeypatch.setattr(LocalStore, "list", lambda store, name: listed.append(name) or real_list(store, name))
    monkeypatch.setattr(LocalStore, "read", lambda store, name: reads.append(name) or real_read(store, name))

    looks = follow_run(folder.store.location, 1.0, lambda _: None)
    statuses = [next(looks) for _ in range(3)]

    assert [status.shards for status in statuses] == [len(PLAN.shards)] * 3
    assert (listed.count(DATA), reads.count(RUN)) == (3, 3)
    assert reads.count(f"{LEDGER}/{record.plan}") == 1


def test_the_plan_of_a_run_that_was_begun_anew_is_read_anew(folder, record):
    looks = follow_run(folder.store.location, 1.0, lambda _: None)
    before = next(looks)
    plan = replace(PLAN, shards=PLAN.shards[:2])
    folder.replace_run(record, draft_run(FINGERPRINT, plan, {}), plan)

    assert (before.shards, next(looks).shards) == (len(PLAN.shards), 2)


def test_watching_a_finished_run_ends_at_once(folder, record, capsys):
    for shard in PLAN.shards:
        commit(folder, record, shard.index)
    finish(folder, record, PLAN, {})
    for flags, parse in (((), str), (("--json",), json.loads)):
        with pytest.raises(SystemExit) as ended:
            main(["status", folder.store.location, "--watch", *flags])
        assert ended.value.code == 0
        assert "finished" in str(parse(capsys.readouterr().out))


def test_how_old_an_object_is_s3_says_itself():
    written = datetime(2026, 11, 22, 18, 0, 0, tzinfo=UTC)

    class Requests:
        location = "s3://bucket/out"

        def send(self, call, most_s=0.0):
            return {
                "Contents": [{"Key": "out/data/part", "Size": 1, "LastModified": written}],
                "ResponseMetadata": {"HTTPHeaders": {"date": "Sun, 22 Nov 2026 18:00:30 GMT"}},
            }

    entry = S3Store(Requests(), "bucket", "out", None).list("data")[0]

    assert (entry.name, entry.age_s) == ("part", 30.0)
