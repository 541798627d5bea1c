"""Before anything is computed: whether the bucket can hold a run, and whether this host can write one."""

import errno
import os
import pathlib
import threading

import pytest

from batchneuron.errors import BackendError, OutputUnfit, OutputUnwritable
from batchneuron.stores import open_store, s3_scratch
from batchneuron.stores.store import Entry
from tests.stores import s3_faults
from tests.stores.s3_faults import answer, lose_answer


def test_a_store_that_creates_is_taken_and_nothing_stays_of_the_race(rig, bucket):
    rig.store.verify(0)

    assert rig.faults.sent.count("PutObject") == 8
    assert list(bucket.objects.all()) == []


def test_a_winner_whose_answer_was_lost_is_a_winner(rig):
    rig.faults.put("PutObject", *[lose_answer] * 8)

    rig.store.verify(0)


def test_a_role_that_may_not_delete_is_enough(rig):
    rig.faults.put_always("DeleteObject", answer(403, "AccessDenied"))

    rig.store.verify(0)


@pytest.mark.case(23)
def test_a_store_that_ignores_the_condition_is_refused(rig):
    rig.faults.put_always("PutObject", s3_faults.ignore_condition)

    with pytest.raises(OutputUnfit, match="8 of 8 writers created the same name") as caught:
        rig.store.verify(0)
    assert caught.value.exit_code == 78


@pytest.mark.case(23)
def test_a_store_that_looks_and_then_writes_is_refused(rig, bucket):
    all_have_looked = threading.Barrier(8)

    def look_then_write(request):
        key = request.url.rpartition("/labels/")[2]
        is_free = not list(bucket.objects.filter(Prefix=key))
        all_have_looked.wait()
        if is_free:
            s3_faults.ignore_condition(request)

    rig.faults.put("PutObject", *[look_then_write] * 8)

    with pytest.raises(OutputUnfit, match="of 8 writers created the same name"):
        rig.store.verify(0)


@pytest.mark.case(23)
def test_a_store_that_knows_no_conditions_is_refused(rig):
    rig.faults.put_always("PutObject", answer(501, "NotImplemented"))

    with pytest.raises(OutputUnfit, match="NotImplemented"):
        rig.store.verify(0)


@pytest.mark.case(12)
def test_a_disk_with_too_little_room_for_parts_is_refused(rig):
    with pytest.raises(OutputUnwritable, match="MiB are needed") as caught:
        rig.store.verify(1 << 60)

    assert "TMPDIR" in caught.value.hint
    assert not rig.faults.sent


def test_a_scratch_folder_of_somebody_else_is_refused(rig, tmp_path):
    folder = rig.store.scratch.folder
    folder.rename(tmp_path / "theirs")
    folder.symlink_to(tmp_path / "theirs")

    with pytest.raises(OutputUnfit, match="not a folder of yours") as caught:
        rig.store.prepare()
    assert (caught.value.exit_code, caught.value.where) == (78, str(folder))


@pytest.mark.case(12)
@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 75), (errno.EROFS, 78)])
def test_a_temporary_folder_that_takes_nothing_says_how_to_use_another(rig, monkeypatch, number, code):
    def refuse(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)

    with pytest.raises(OutputUnwritable) as caught:
        rig.store.prepare()
    assert caught.value.exit_code == code
    assert "set TMPDIR" in caught.value.hint
    assert caught.value.where == str(rig.store.scratch.folder.parent)


@pytest.mark.case(12)
def test_a_machine_without_any_temporary_folder_says_so(rig, monkeypatch):
    monkeypatch.setattr(s3_scratch.tempfile, "tempdir", None)
    monkeypatch.setattr(s3_scratch.tempfile, "_candidate_tempdir_list", lambda: ["/nowhere/at/all"])

    with pytest.raises(OutputUnwritable, match="No usable temporary directory") as caught:
        rig.store.prepare()
    assert "set TMPDIR" in caught.value.hint


def test_without_boto3_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)

    with pytest.raises(BackendError) as caught:
        open_store("s3://labels/run")
    assert "pip install '.[aws]'" in caught.value.hint


@pytest.mark.parametrize("location", ["s3://", "s3:///run", "s3://labels/a//b", "s3://labels/../b"])
def test_what_names_no_run_folder(bucket, location):
    with pytest.raises(OutputUnfit, match="not the name of a run folder"):
        open_store(location)


def test_a_whole_bucket_can_be_a_run_folder(bucket):
    store = open_store("s3://labels/")
    store.create_bytes("data/a", b"1")

    assert (store.location, store.list("data")) == ("s3://labels", (Entry("a", 1),))
