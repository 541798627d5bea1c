"""The run folder: claimed once, resumed by what is in it, and nothing foreign ever overwritten."""

import json
import re
from dataclasses import replace
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchneuron.errors import OutputConflict
from batchneuron.ledger.leftover import list_left
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import find_shard, part_name
from batchneuron.ledger.run_record import Progress
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stores.local import LocalStore
from tests.ledger.parts import FINGERPRINT, PLAN, commit, finish, path_of, write_shard


@pytest.fixture
def folder(tmp_path):
    return RunFolder(LocalStore(tmp_path / "out"))


@pytest.fixture
def record(folder):
    return folder.create_run(FINGERPRINT, PLAN, {"task": "x"})


def test_a_new_folder_is_for_nothing(folder):
    assert folder.read_run() is None
    assert list_left(folder) == ()


def test_a_run_is_read_back_as_it_was_created(folder, record):
    again = RunFolder(LocalStore(folder.store.root))

    assert again.read_run() == record
    assert again.read_plan(record) == PLAN
    assert (record.shards, record.rows, record.generation) == (len(PLAN.shards), 42, 1)
    assert record.fields == FINGERPRINT.fields
    assert re.fullmatch("[0-9a-f]{8}", record.run8)


def test_whoever_comes_second_gets_the_first_one_s_record(folder, record):
    other = replace(PLAN, ladder=Ladder((Shape(1, 99),)))

    second = folder.create_run(Fingerprint({"task": "y"}), other, {"task": "y"})

    assert second == record
    assert folder.read_plan(second) == PLAN


def test_parts_of_another_plan_have_another_name(tmp_path, folder, record):
    other = RunFolder(LocalStore(tmp_path / "other"))
    shapes = other.create_run(FINGERPRINT, replace(PLAN, ladder=Ladder((Shape(4, 9),))), {})

    assert shapes.run8 != record.run8
    assert shapes.fingerprint != record.fingerprint


def test_a_folder_of_another_protocol_is_refused(folder, record):
    path = folder.store.root / ".batchneuron" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": 99}))

    with pytest.raises(OutputConflict, match="protocol 99"):
        folder.read_run()


def test_a_plan_that_is_gone_or_another_one_is_refused(tmp_path, folder, record):
    path = folder.store.root / ".batchneuron" / record.plan
    other = RunFolder(LocalStore(tmp_path / "other"))
    stranger = other.create_run(FINGERPRINT, replace(PLAN, tokens_per_row=8.0), {})

    path.write_bytes(other.store.read(f".batchneuron/{stranger.plan}"))
    with pytest.raises(OutputConflict, match="missing or damaged"):
        folder.read_plan(record)
    path.unlink()
    with pytest.raises(OutputConflict, match="missing or damaged"):
        folder.read_plan(record)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-7], lambda content: b"", lambda content: b"x" * 50]
)
def test_a_plan_whose_bytes_are_damaged_is_refused(folder, record, damage):
    path = folder.store.root / ".batchneuron" / record.plan
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(OutputConflict, match="missing or damaged"):
        folder.read_plan(record)


def test_a_part_counts_from_the_moment_it_is_there(folder, record):
    assert folder.list_committed(record) == frozenset()

    done = commit(folder, record, 2)

    assert done.created
    assert folder.list_committed(record) == {2}
    assert part_name(record, 2) == f"data/part-00002_of_00004-{record.run8}.parquet"


@pytest.mark.case(16)
def test_the_second_runner_of_a_shard_finds_the_first_one_s_part(folder, record):
    first = commit(folder, record, 1, values=1)
    second = commit(folder, record, 1, values=2)

    assert (first.created, second.created) == (True, False)
    assert pq.read_table(path_of(folder, record, 1))["value"][0].as_py() == 1
    assert folder.store.list(".batchneuron/tmp") == ()


@pytest.mark.case(17)
@pytest.mark.parametrize("foreign", ["garbage", "parquet", "fingerprint", "rows"])
def test_a_foreign_file_under_a_part_s_name_is_refused_and_left_alone(folder, record, foreign):
    path = path_of(folder, record, 1)
    if foreign == "garbage":
        path.write_bytes(b"precious")
    elif foreign == "parquet":
        pq.write_table(pa.table({"value": [0] * 11}), path)
    elif foreign == "fingerprint":
        write_shard(folder, record, 1, fingerprint="0" * 64).path.rename(path)
    else:
        write_shard(folder, record, 2).path.rename(path)
        assert PLAN.shards[1].rows != PLAN.shards[2].rows
    before = path.read_bytes()

    with pytest.raises(OutputConflict):
        commit(folder, record, 1)

    assert path.read_bytes() == before


def test_strays_are_all_that_is_not_of_this_run(folder, record):
    commit(folder, record, 0)
    strays = [
        "notes.txt",
        "part-00003_of_00004-00000000.parquet",
        f"part-00000_of_00005-{record.run8}.parquet",
        f"part-00000_of_00004-{record.run8}.parquet.tmp",
    ]
    for name in strays:
        (folder.store.root / "data" / name).write_text("x")

    parts, found = folder.list_data(record)
    assert (parts.keys(), sorted(found)) == ({0}, sorted(strays))


def test_progress_of_every_runner_is_kept_and_the_latest_word_of_each(folder, record):
    done = [commit(folder, record, index) for index in range(3)]
    folder.write_progress(record, Progress("a", 1.0, tuple(done[:1])))
    folder.write_progress(record, Progress("b", 9.0, tuple(done[2:])))
    folder.write_progress(record, Progress("a", 2.5, tuple(done[:2])))

    assert folder.read_progress(record) == (
        Progress("a", 2.5, tuple(done[:2])),
        Progress("b", 9.0, tuple(done[2:])),
    )


@pytest.mark.parametrize("content", [b"", b'{"slot": "a", "elap', b"\x00"])
def test_progress_that_a_power_cut_damaged_does_not_stop_anybody(folder, record, content):
    """It is advisory and not flushed to disk, so that it may come back as anything."""
    done = Progress("b", 1.0, (commit(folder, record, 0),))
    folder.write_progress(record, done)
    folder.store.replace_bytes(f".batchneuron/progress/{record.run8}-a.json", content)

    assert folder.read_progress(record) == (done,)


@pytest.mark.parametrize("name", ["run.json", "manifest.json"])
def test_a_damaged_record_is_refused_and_not_a_crash(folder, record, name):
    path = folder.store.root / ".batchneuron" / name
    path.write_bytes(b'{"fingerprint": ')

    with pytest.raises(OutputConflict):
        folder.read_run() if name == "run.json" else folder.read_manifest(record)


def test_the_manifest_lists_every_part_with_its_bytes(folder, record):
    done = {index: commit(folder, record, index, rejected=index) for index in range(4)}

    manifest = finish(folder, record, PLAN, done)

    assert folder.read_manifest(record) == manifest
    assert (manifest.rows, manifest.rejected, manifest.fingerprint) == (42, 0 + 1 + 2 + 3, record.fingerprint)
    for part, shard in zip(manifest.parts, PLAN.shards, strict=True):
        content = (folder.store.root / "data" / part.name).read_bytes()
        assert (part.row_lo, part.row_hi) == (shard.row_lo, shard.row_hi)
        assert (part.size_bytes, part.sha256) == (len(content), sha256(content).hexdigest())


@pytest.mark.case(30)
@settings(max_examples=16, deadline=None)
@given(known=st.sets(st.integers(0, 3)), mistaken=st.sets(st.integers(0, 3)))
def test_whoever_finishes_writes_the_same_manifest(tmp_path_factory, known, mistaken):
    """Parts of killed runners are read and hashed; so are those that somebody else had made first."""
    folder = RunFolder(LocalStore(tmp_path_factory.mktemp("out")))
    record = folder.create_run(FINGERPRINT, PLAN, {})
    done = {index: commit(folder, record, index, rejected=index) for index in range(4)}
    finish(folder, record, PLAN, done)
    path = folder.store.root / ".batchneuron" / "manifest.json"
    complete = path.read_bytes()
    path.unlink()

    reports = {index: done[index] for index in known}
    reports |= {index: replace(done[index], created=False, rejected=7, sha256="0" * 64) for index in mistaken}
    finish(folder, record, PLAN, reports)

    assert path.read_bytes() == complete
    for word in (b"elapsed", b"seconds", b"host"):
        assert word not in complete


@pytest.mark.case(30)
def test_two_finishers_write_the_same_and_a_part_made_again_is_listed_anew(folder, record):
    done = {index: commit(folder, record, index) for index in range(4)}
    first = finish(folder, record, PLAN, done)
    before = folder.store.read(".batchneuron/manifest.json")

    assert finish(folder, record, PLAN, {}) == first
    assert folder.store.read(".batchneuron/manifest.json") == before

    path_of(folder, record, 2).unlink()
    again = commit(folder, record, 2)
    second = finish(folder, record, PLAN, {**done, 2: again})

    assert folder.read_manifest(record) == second
    assert second.parts[2].sha256 == sha256(path_of(folder, record, 2).read_bytes()).hexdigest()


def test_a_foreign_parquet_file_never_gets_into_a_manifest(folder, record):
    done = {index: commit(folder, record, index) for index in range(3)}
    pq.write_table(pa.table({"value": [0] * 5}), path_of(folder, record, 3))

    with pytest.raises(OutputConflict):
        finish(folder, record, PLAN, done)


def test_a_report_is_one_line(folder, record):
    folder.write_progress(record, Progress("a", 1.0, (commit(folder, record, 0),)))

    assert b"\n" not in folder.store.read(f".batchneuron/progress/{record.run8}-a.json")


@pytest.mark.parametrize("size", [0, 11, 500])
def test_a_part_that_was_cut_is_noticed_by_its_size_alone(folder, record, size):
    done = tuple(commit(folder, record, index) for index in range(2))
    folder.write_progress(record, Progress("a", 1.0, done if size == 500 else ()))
    folder.require_sizes(record, PLAN, folder.list_parts(record))
    path = path_of(folder, record, 1)
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(OutputConflict) as caught:
        folder.require_sizes(record, PLAN, folder.list_parts(record))

    assert f"rm {path}" in str(caught.value)


def test_a_part_of_another_size_that_is_whole_was_made_again(folder, record):
    done = commit(folder, record, 1)
    folder.write_progress(record, Progress("a", 1.0, (replace(done, size_bytes=1),)))

    folder.require_sizes(record, PLAN, folder.list_parts(record))


@pytest.mark.parametrize("name", ["part-1_of_00004-{}", "part-00004_of_00004-{}", "part-00001_of_4-{}"])
def test_a_name_that_is_nearly_a_part_s_is_none(folder, record, name):
    assert find_shard(record, f"{name.format(record.run8)}.parquet") is None
    assert find_shard(record, f"part-00003_of_00004-{record.run8}.parquet") == 3
