"""The local store: whole files under their names, the first one stays, and nothing before it is on disk."""

import errno
import os
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import OutputConflict, OutputUnwritable, WorkerFailed
from batchneuron.stores import local, open_store, scratch
from batchneuron.stores.local import LocalStore
from batchneuron.stores.scratch import name_host
from batchneuron.stores.store import Draft, Entry

TMP = Path(".batchneuron/tmp")


@pytest.fixture
def store(tmp_path):
    store = LocalStore(tmp_path / "out")
    store.prepare()
    return store


def make_draft(store, content, attempt="a"):
    source = store.scratch_file(attempt)
    source.write_bytes(content)
    return Draft(source, sha256(content).hexdigest())


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def refuse_links(monkeypatch, number):
    def refuse(source, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(local.os, "link", refuse)


def test_a_file_is_created_once_and_the_first_content_stays(store):
    assert store.create("data/part", make_draft(store, b"first"))
    assert not store.create("data/part", make_draft(store, b"second"))

    assert store.read("data/part") == b"first"
    assert names_in(store.root / TMP) == []
    assert store.create_bytes("data/other", b"x")
    assert not store.create_bytes("data/other", b"y")
    assert store.read("data/other") == b"x"


@pytest.mark.parametrize("number", [None, errno.EPERM])
def test_of_eight_racing_writers_one_wins(store, monkeypatch, number):
    if number:
        refuse_links(monkeypatch, number)
    contents = [bytes([65 + i]) * 4096 for i in range(8)]
    start = threading.Barrier(8)
    won = []

    def race(content):
        draft = make_draft(store, content, content[:1].decode())
        start.wait()
        if store.create("data/part", draft):
            won.append(content)

    threads = [threading.Thread(target=race, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert store.read("data/part") == won[0]
    assert names_in(store.root / TMP) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_name_appears_after_its_bytes_are_on_disk_and_before_the_folder_is_flushed(
    store, monkeypatch, links
):
    calls = []
    fsync, link = os.fsync, os.link

    def watch_fsync(descriptor):
        calls.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def watch_link(source, target):
        if not links:
            raise OSError(errno.EPERM, "no links here")
        calls.append(("link", target))
        link(source, target)

    rename = local._rename_if_absent
    monkeypatch.setattr(local.os, "fsync", watch_fsync)
    monkeypatch.setattr(local.os, "link", watch_link)
    monkeypatch.setattr(
        local,
        "_rename_if_absent",
        lambda source, target: calls.append(("link", target)) or rename(source, target),
    )
    draft = make_draft(store, b"x")

    assert store.create("data/part", draft)

    data = store.root / "data"
    assert calls == [("fsync", draft.path), ("link", data / "part"), ("fsync", data)]


def test_a_name_that_is_taken_is_not_flushed_again(store, monkeypatch):
    store.create_bytes("data/part", b"x")
    draft = make_draft(store, b"y")
    flushed = []
    monkeypatch.setattr(local, "_fsync", flushed.append)

    assert not store.create("data/part", draft)
    assert flushed == [draft.path]


@pytest.mark.case(11)
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_a_rename_that_overwrites_nothing(store, monkeypatch, number):
    refuse_links(monkeypatch, number)

    assert store.create("data/part", make_draft(store, b"first"))
    assert not store.create("data/part", make_draft(store, b"second"))

    assert store.read("data/part") == b"first"
    assert names_in(store.root / TMP) == []


@pytest.mark.case(11)
def test_a_disk_that_can_do_neither_is_named(store, monkeypatch):
    refuse_links(monkeypatch, errno.EPERM)

    class Libc:
        @staticmethod
        def renameat2(*_):
            local.ctypes.set_errno(errno.EINVAL)
            return -1

    monkeypatch.setattr(local.ctypes, "CDLL", lambda *_, **__: Libc)

    with pytest.raises(OutputUnwritable, match="neither link nor rename"):
        store.create("data/part", make_draft(store, b"first"))
    assert store.read("data/part") is None


@pytest.mark.case(8, 9)
def test_a_full_disk_and_a_broken_one(store, monkeypatch):
    def fail_with(number):
        def fail(descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(local.os, "fsync", fail)

    fail_with(errno.ENOSPC)
    with pytest.raises(OutputUnwritable):
        store.create("data/part", make_draft(store, b"x"))
    fail_with(errno.EIO)
    with pytest.raises(WorkerFailed):
        store.create("data/part", make_draft(store, b"x"))

    assert store.read("data/part") is None


def test_replacing_shows_the_old_bytes_or_the_new(store):
    store.replace_bytes("deep/er/progress.json", b"old")
    store.replace_bytes("deep/er/progress.json", b"new")

    assert store.read("deep/er/progress.json") == b"new"
    assert names_in(store.root / TMP) == []


def test_what_dead_processes_left_is_removed_and_what_others_hold_is_not(store):
    host = name_host()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    unburied = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, unburied.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the process table
    names = {
        f"{host}.{dead.pid}.a.inprogress": False,
        f"{host}.{unburied.pid}.a.inprogress": False,
        f"{host}.{os.getpid()}.b.inprogress": True,
        f"{host}.1.c.inprogress": True,
        f"elsewhere.{dead.pid}.d.inprogress": True,
        "notes.txt": True,
    }
    for name in names:
        (store.root / TMP / name).write_bytes(b"x")

    store.prepare()
    unburied.wait()

    assert names_in(store.root / TMP) == sorted(name for name, stays in names.items() if stays)


def test_a_file_of_another_container_with_this_hosts_name_stays(store, tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    name = f"{name_host()}.{dead.pid}.a.inprogress"
    (store.root / TMP / name).write_bytes(b"x")
    monkeypatch.setattr(scratch, "_PID_NAMESPACE", tmp_path)

    store.prepare()

    assert names_in(store.root / TMP) == [name]


def test_a_scratch_file_is_in_the_same_file_system_and_its_own(store):
    first, second = store.scratch_file("a"), store.scratch_file("b")

    assert first != second
    assert first.parent == store.root / TMP


@pytest.mark.parametrize(
    "name", ["two words", 'it\'s "quoted"', "new\nline", "名前 é", "#x?y=1&z", "a*[b]", "%41"]
)
def test_folders_with_nasty_names(tmp_path, name):
    store = open_store(str(tmp_path / name))
    store.prepare()
    left = store.scratch_file("a")
    left.write_bytes(b"x")
    pq.write_table(pa.table({"a": [1, 2]}).replace_schema_metadata({"k": "v"}), store.scratch_file("b"))

    assert store.create("data/part", Draft(store.scratch_file("b"), "00"))

    assert store.list("data") == (Entry("part", (tmp_path / name / "data" / "part").stat().st_size),)
    footer = store.read_footer("data/part")
    assert (footer["k"], footer["num_rows"]) == ("v", "2")
    assert pq.read_table(store.open_table("data/part")).num_rows == 2
    store.prepare()
    assert left.exists()  # this process is alive


def test_listing(store):
    (store.root / "data" / "folder").mkdir()
    store.create_bytes("data/b", b"12")
    store.create_bytes("data/a", b"1")

    assert store.list("data") == (Entry("a", 1), Entry("b", 2))
    assert store.list("nowhere") == ()
    assert store.list("data/a") == ()
    assert store.read("data/none") is None
    assert store.read("data/a/none") is None


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_file_that_is_no_parquet_has_no_footer(store, content):
    store.create_bytes("data/part", content)

    with pytest.raises(OutputConflict, match="not a readable Parquet file"):
        store.read_footer("data/part")


def test_a_missing_file_has_no_footer(store):
    with pytest.raises(OutputConflict):
        store.read_footer("data/part")


@pytest.mark.case(10)
def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(OutputUnwritable, match="cannot make the run folder"):
        LocalStore(tmp_path / "file" / "out").prepare()


def test_locations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert open_store("out/x").location == str(tmp_path / "out/x")
    assert open_store("~/out").location == str(tmp_path / "home/out")
    assert open_store(f"file://{tmp_path}/out").location == str(tmp_path / "out")
    assert open_store(f"file://{tmp_path}/two%20words").location == str(tmp_path / "two words")
    with pytest.raises(OutputUnwritable, match="no store for 'gs://'"):
        open_store("gs://bucket/out")


@pytest.mark.case(10)
def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(tmp_path, monkeypatch):
    LocalStore(tmp_path / "new" / "out").verify(0)
    assert not (tmp_path / "new").exists()

    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputUnwritable, match=r"cannot write in .*file"):
        LocalStore(tmp_path / "file" / "out").verify(0)
    monkeypatch.setattr(local.os, "access", lambda path, mode: mode == os.F_OK)
    with pytest.raises(OutputUnwritable, match=f"cannot write in {tmp_path}"):
        LocalStore(tmp_path / "new" / "out").verify(0)


def test_the_digest_of_a_file(store):
    store.create_bytes("data/part", b"abc")

    assert store.read_sha256("data/part") == sha256(b"abc").hexdigest()
    with pytest.raises(OutputConflict, match="cannot be read"):
        store.read_sha256("data/none")


def test_on_nfs_a_link_that_exists_may_be_ones_own(store, monkeypatch):
    link = os.link

    def link_and_forget(source, target):
        link(source, target)
        raise FileExistsError(errno.EEXIST, "the first answer was lost")

    monkeypatch.setattr(local.os, "link", link_and_forget)

    assert store.create("data/part", make_draft(store, b"first"))
