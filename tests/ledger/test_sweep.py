"""gc: removes what overwritten runs and dead runners left, and nothing else."""

import os
import time
from dataclasses import replace

import pytest

from batchneuron.errors import DataError
from batchneuron.ledger.found import find_run
from batchneuron.ledger.lease import DEAD_AFTER_S
from batchneuron.ledger.run_record import Lease
from batchneuron.ledger.sweep import Patience, sweep_folder
from batchneuron.run import run_job
from batchneuron.showing.render_folder import render_swept
from batchneuron.stores.scratch import name_host

DEAD_PID = 2**22 + 1
LIVE = Lease("0123456789ab", 1, (1,), "another-host", 1)


class Time:
    """A clock that stands still until somebody rests; meanwhile others may work."""

    def __init__(self, meanwhile=lambda: None):
        self.now_s, self.meanwhile, self.waited_for = 0.0, meanwhile, []

    def rest(self, seconds):
        self.now_s += seconds
        self.meanwhile()

    def patience(self):
        return Patience(self.waited_for.append, lambda: self.now_s, self.rest)


@pytest.fixture
def out(make_spec, tmp_path):
    run_job(make_spec())
    return tmp_path / "out"


def list_files(out):
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_a_finished_run_has_nothing_to_remove(out):
    before = list_files(out)

    assert sweep_folder(str(out)).files == ()
    assert list_files(out) == before


@pytest.mark.case(28)
def test_an_old_part_a_dead_lease_and_a_left_file_go_and_the_rest_stays(out):
    found = find_run(str(out))
    folder, record = found.folder, found.record
    left = [
        "data/part-00001_of_00005-00000000.parquet",
        f".batchneuron/tmp/{name_host()}.{DEAD_PID}.x.inprogress",
        f".batchneuron/leases/{record.run8}-0123456789ab.json",
    ]
    kept = [
        ".batchneuron/plan-0123456789abcdef.json.zst",
        "data/notes.parquet",
        "data/part-1_of_5.parquet",
        f".batchneuron/tmp/{name_host()}.{os.getpid()}.x.inprogress",
        f".batchneuron/tmp/another-host.{DEAD_PID}.x.inprogress",
        ".batchneuron/mine.json",
    ]
    for name in left + kept:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("x" * 7)
    folder.write_lease(record, replace(LIVE, host=name_host(), pid=DEAD_PID))
    before = list_files(out)

    planned = sweep_folder(str(out), dry_run=True)
    assert list_files(out) == before
    swept = sweep_folder(str(out))

    assert sorted(file.name for file in swept.files) == sorted(left)
    assert planned == replace(swept, is_dry_run=True)
    assert list_files(out) == before - set(left)


def test_a_lease_that_does_not_change_is_watched_for_three_periods_and_then_dead(out):
    found = find_run(str(out))
    folder, record = found.folder, found.record
    folder.write_lease(record, LIVE)
    time = Time()

    swept = sweep_folder(str(out), patience=time.patience())

    assert [file.kind for file in swept.files] == ["lease"]
    assert time.waited_for == [1] and time.now_s >= DEAD_AFTER_S
    assert folder.read_leases(record) == ()


def test_a_lease_that_changes_stays(out):
    found = find_run(str(out))
    folder, record = found.folder, found.record
    folder.write_lease(record, LIVE)
    time = Time(lambda: folder.write_lease(record, replace(LIVE, beat=2)))

    swept = sweep_folder(str(out), patience=time.patience())

    assert (swept.files, swept.live_runners) == ((), 1)
    assert time.now_s < DEAD_AFTER_S
    assert len(folder.read_leases(record)) == 1


def test_a_folder_without_a_run_is_left_alone(tmp_path):
    (tmp_path / "part-00001_of_00005-00000000.parquet").write_text("mine")

    with pytest.raises(DataError, match="no run in this folder"):
        sweep_folder(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_start_that_was_killed_tried_its_bucket_with_goes_after_an_hour(out):
    old, new = (out / f".batchneuron/probe-{digit * 32}" for digit in "01")
    for path in (old, new):
        path.write_text("7")
    hour_ago_s = time.time() - 3601
    os.utime(old, (hour_ago_s, hour_ago_s))

    swept = sweep_folder(str(out))

    assert [(file.kind, file.name) for file in swept.files] == [("probe", f".batchneuron/{old.name}")]
    assert new.exists()
    assert "1 trial object of a start that was killed" in render_swept(swept)
