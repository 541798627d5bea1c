"""Runs that are begun anew in their folder: other names, one winner, and nothing of the old one believed."""

from dataclasses import replace

import pytest

from batchneuron.errors import OutputConflict
from batchneuron.ledger.leftover import delete_old_parts, list_left
from batchneuron.ledger.run_folder import RunFolder, draft_run
from batchneuron.ledger.run_names import part_name
from batchneuron.ledger.run_record import Lease, Progress
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.stores.local import LocalStore
from tests.ledger.parts import FINGERPRINT, PLAN, commit, finish


@pytest.fixture
def folder(tmp_path):
    return RunFolder(LocalStore(tmp_path / "out"))


@pytest.fixture
def record(folder):
    return folder.create_run(FINGERPRINT, PLAN, {"task": "x"})


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
