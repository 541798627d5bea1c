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
from batchneuron.ledger.finish import finish_run
from batchneuron.ledger.leftover import delete_old_parts, list_left
from batchneuron.ledger.run_folder import FINGERPRINT_KEY, RunFolder, draft_run
from batchneuron.ledger.run_names import find_shard, part_name
from batchneuron.ledger.run_record import Lease, Progress
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.planning.forecast import Forecast
from batchneuron.planning.plan import Plan, cut_shards
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages.write import write_part
from batchneuron.stores.local import LocalStore
from batchneuron.workers.events import PartDone, StageSeconds
from tests.planning.test_plan import make_inventory

FINGERPRINT = Fingerprint({"task": "x", "options": {"top_k": 1}})
LADDER = Ladder((Shape(4, 8),))
PLAN = Plan(
    cut_shards(make_inventory([[11, 11, 11, 4], [], [5]]), 16), LADDER, 7.5, Forecast(0.25, 0.2, None)
)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(LocalStore(tmp_path / "out"))


@pytest.fixture
def record(folder):
    return folder.create_run(FINGERPRINT, PLAN, {"task": "x"})


def write_shard(folder, record, index, *, rejected=0, values=0, fingerprint=None):
    """A part of a shard, written but not committed."""
    rows = PLAN.shards[index].rows
    metadata = {FINGERPRINT_KEY: fingerprint or record.fingerprint, "batchneuron.rejected": str(rejected)}
    path = folder.store.scratch_file(f"{index}-{values}")
    return write_part(pa.table({"value": [values] * rows}), path, metadata, "zstd")


def commit(folder, record, index, **how):
    """Commit a shard's part; what its runner would report."""
    part = write_shard(folder, record, index, **how)
    created = folder.commit_part(record, PLAN.shards[index], part)
    return PartDone(
        shard=index,
        rows=PLAN.shards[index].rows,
        rejected=how.get("rejected", 0),
        truncated=0,
        tokens=1,
        slots=2,
        size_bytes=part.size_bytes,
        sha256=part.sha256,
        created=created,
        seconds=StageSeconds(0.1, 0.2, 0.3),
    )


def finish(folder, record, plan, done):
    return finish_run(folder, record, plan, done, folder.list_parts(record))


def path_of(folder, record, index):
    return folder.store.root / part_name(record, index)


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


def overwrite(folder, record, plan=PLAN, fields=None):
    return folder.replace_run(record, draft_run(Fingerprint(fields or {"task": "y"}), plan, {}), plan)


def test_a_run_that_is_overwritten_has_other_names_and_another_generation(folder, record):
    commit(folder, record, 0)

    new = overwrite(folder, record, fields=dict(FINGERPRINT.fields))

    assert folder.read_run() == new
    assert (new.generation, new.fingerprint) == (2, record.fingerprint)
    assert new.run8 != record.run8
    assert folder.list_committed(new) == frozenset()
    assert folder.read_plan(new) == PLAN


def test_of_two_that_overwrite_one_wins(folder, record):
    new = overwrite(folder, record)

    with pytest.raises(OutputConflict, match="just now"):
        overwrite(folder, record, fields={"task": "z"})
    assert folder.read_run() == new


def test_an_old_runner_writes_parts_that_are_not_of_the_run_and_never_a_manifest(folder, record):
    new = overwrite(folder, record)
    late = {index: commit(folder, record, index) for index in range(4)}
    done = {index: commit(folder, new, index, values=5) for index in range(4)}
    manifest = finish(folder, new, PLAN, done)

    with pytest.raises(OutputConflict, match="overwritten"):
        finish(folder, record, PLAN, late)

    assert folder.read_manifest(new) == manifest
    assert [file.kind for file in list_left(folder)] == ["part"] * 4
    delete_old_parts(folder)
    assert {path.name for path in (folder.store.root / "data").iterdir()} == {
        part.name for part in manifest.parts
    }


def test_the_old_manifest_stays_until_the_new_one_takes_its_place_and_is_not_the_new_run_s(folder, record):
    finish(folder, record, PLAN, {index: commit(folder, record, index) for index in range(4)})
    before = folder.store.read(".batchneuron/manifest.json")
    new = overwrite(folder, record)

    assert folder.store.read(".batchneuron/manifest.json") == before
    assert folder.read_manifest(new) is None
    manifest = finish(folder, new, PLAN, {index: commit(folder, new, index) for index in range(4)})
    assert folder.read_manifest(new) == manifest


def test_progress_of_an_overwritten_run_is_not_believed(folder, record):
    folder.write_progress(record, Progress("a", 1.0, (commit(folder, record, 0),)))

    assert folder.read_progress(overwrite(folder, record)) == ()


def test_what_is_left_of_an_old_run_is_told_by_its_names_alone(folder, record):
    commit(folder, record, 0)
    folder.write_progress(record, Progress("0123456789ab", 1.0, ()))
    folder.write_lease(record, Lease("0123456789ab", 1, (), "h", 1))
    assert list_left(folder) == ()
    keep = [
        "data/notes.parquet",
        f"data/part-0_of_00004-{record.run8}.parquet.bak",
        ".batchneuron/notes.json",
    ]
    for name in keep:
        (folder.store.root / name).write_text("mine")

    plan = replace(PLAN, tokens_per_row=8.0)
    new = overwrite(folder, record, plan)
    assert "part" not in {file.kind for file in list_left(folder)}  # until the new run is complete
    finish(folder, new, plan, {index: commit(folder, new, index) for index in range(4)})

    assert sorted((file.kind, file.name) for file in list_left(folder)) == [
        ("lease", f".batchneuron/leases/{record.run8}-0123456789ab.json"),
        ("part", part_name(record, 0)),
        ("progress", f".batchneuron/progress/{record.run8}-0123456789ab.json"),
    ]


class Meddled(LocalStore):
    """Calls `before` when `run.json` is about to be replaced, and `after` when it has been."""

    def replace_if(self, name, content, expected):
        self.before()
        replaced = LocalStore.replace_if(self, name, content, expected)
        self.after()
        return replaced


def meddle(folder, before, after=lambda: None):
    store = Meddled(folder.store.root)
    vars(store).update(before=before, after=after)
    return RunFolder(store)


def collect(store, files):
    store.delete_many([file.name for file in files])


def die():
    raise SystemExit("killed")


OTHER = replace(PLAN, tokens_per_row=8.0)


@pytest.mark.case(28)
def test_gc_does_not_take_the_plan_of_a_run_that_is_being_begun(folder, record):
    """It looks when the plan is there and `run.json` still the old one; then the overwriter dies."""
    meddled = meddle(folder, lambda: collect(folder.store, list_left(folder)), die)

    with pytest.raises(SystemExit):
        overwrite(meddled, record, OTHER)

    assert folder.read_plan(folder.read_run()) == OTHER


@pytest.mark.case(28)
def test_gc_that_looked_before_the_swap_does_not_take_the_plan_after_it(folder, record):
    seen = []
    meddled = meddle(folder, lambda: seen.extend(list_left(folder)))

    overwrite(meddled, record, OTHER)
    collect(folder.store, seen)

    assert folder.read_plan(folder.read_run()) == OTHER


@pytest.mark.case(28)
def test_gc_does_not_take_the_plan_of_a_run_that_comes_back(folder, record):
    other = overwrite(folder, record, OTHER)
    seen = list_left(folder)
    overwrite(folder, other, PLAN)
    collect(folder.store, seen)

    assert folder.read_plan(folder.read_run()) == PLAN


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 50)])
def test_a_plan_that_is_lost_says_what_mends_it_and_that_does(folder, record, damage):
    damage(folder.store.root / ".batchneuron" / record.plan)
    assert not folder.has_plan(record)
    with pytest.raises(OutputConflict, match="restore it, or begin anew with `run --overwrite`"):
        folder.read_plan(record)

    again = overwrite(folder, record, fields=dict(FINGERPRINT.fields))

    assert folder.has_plan(again) and folder.read_plan(again) == PLAN


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
