"""The manifest of whoever finishes: reports are believed, a manifest that fits, then the parts themselves."""

from dataclasses import replace
from hashlib import sha256

import pytest

from batchneuron.errors import OutputConflict
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import MANIFEST
from batchneuron.stores.local import LocalStore
from tests.ledger.parts import FINGERPRINT, PLAN, commit, finish, path_of


@pytest.fixture
def folder(tmp_path):
    return RunFolder(LocalStore(tmp_path / "out"))


@pytest.fixture
def record(folder):
    return folder.create_run(FINGERPRINT, PLAN, {})


@pytest.fixture
def done(folder, record):
    return {index: commit(folder, record, index, rejected=index) for index in range(4)}


@pytest.fixture
def looked_at(monkeypatch):
    """Parts whose footer was read."""
    names, real = [], LocalStore.read_footer

    def read(store, name):
        names.append(name)
        return real(store, name)

    monkeypatch.setattr(LocalStore, "read_footer", read)
    return names


def digest(folder, record, index):
    return sha256(path_of(folder, record, index).read_bytes()).hexdigest()


def test_parts_that_a_manifest_of_this_run_lists_are_not_looked_at(folder, record, done, looked_at):
    first = finish(folder, record, PLAN, done)

    assert finish(folder, record, PLAN, {0: done[0]}) == first
    assert looked_at == []


@pytest.mark.parametrize("change", ["another size", "another digest", "another run", "damaged"])
def test_a_manifest_that_does_not_fit_is_not_believed_in_anything(folder, record, done, looked_at, change):
    first = finish(folder, record, PLAN, done)
    content = folder.store.read(MANIFEST)
    wrong = {
        "another size": content.replace(b'"size_bytes": %d' % first.parts[3].size_bytes, b'"size_bytes": 7'),
        "another digest": content.replace(first.parts[0].sha256.encode(), b"0" * 64),
        "another run": content.replace(b'"generation": 1', b'"generation": 2'),
        "damaged": b"{",
    }[change]
    assert wrong != content
    folder.store.replace_bytes(MANIFEST, wrong)

    assert finish(folder, record, PLAN, {0: done[0]}) == first
    assert len(looked_at) == 3
    assert folder.store.read(MANIFEST) == content


def test_a_part_that_two_have_made_is_looked_at_whatever_a_manifest_says(folder, record, done):
    first = finish(folder, record, PLAN, done)
    path_of(folder, record, 2).unlink()
    again = commit(folder, record, 2, rejected=2, values=1)
    assert (again.size_bytes, again.sha256 == done[2].sha256) == (done[2].size_bytes, False)

    second = finish(folder, record, PLAN, {0: done[0], 2: None})

    assert second.parts[2].sha256 == digest(folder, record, 2) != first.parts[2].sha256
    assert folder.read_manifest(record) == second


def test_an_error_in_one_of_many_parts_is_told(folder, record, done):
    path_of(folder, record, 3).write_bytes(b"x" * 50)

    with pytest.raises(OutputConflict, match="not a readable Parquet file"):
        finish(folder, record, PLAN, {})
    assert folder.read_manifest(record) is None


def test_a_report_of_another_size_is_not_believed(folder, record, done, looked_at):
    reports = {**done, 1: replace(done[1], size_bytes=1, sha256="0" * 64)}

    assert finish(folder, record, PLAN, reports).parts[1].sha256 == digest(folder, record, 1)
    assert len(looked_at) == 1
