"""Files that changed since they were listed, and cursors that stream."""

import os

import pytest

from batchneuron.errors import SourceChanged, SourceForbidden, SourceUnreadable
from batchneuron.sources import FileId, Slice, bytestream
from tests.sources.counting import CountingOpener
from tests.sources.reading import cut, open_path
from tests.sources.writing import KINDS, write_files


@pytest.mark.case(32)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["grown", "touched", "gone"])
def test_a_file_that_changed_is_refused(tmp_path, kind, change):
    source = open_path(write_files(tmp_path, kind))
    inventory = source.inventory()
    path = next(tmp_path.glob("part-0*"))
    if change == "grown":
        path.write_bytes(path.read_bytes() + b"\n")
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        path.unlink()
    with pytest.raises(SourceChanged) as caught:
        source.open_reader(inventory.schema).read(cut(inventory, 0, 10))
    text = str(caught.value)
    assert str(path) in text
    if change != "gone":
        assert f"it had {inventory.files[0].file.size_bytes} bytes" in text
        assert f"version {path.stat().st_mtime_ns}" in text


@pytest.mark.parametrize("kind", ["jsonl", "csv", "jsonl.gz"])
def test_slices_in_sequence_read_no_byte_twice(tmp_path, kind, monkeypatch):
    source = open_path(write_files(tmp_path, kind))
    inventory = source.inventory()
    opener = CountingOpener()
    monkeypatch.setattr(bytestream, "open_file", opener)
    reader = source.open_reader(inventory.schema)
    for lo in range(0, inventory.rows, 4):
        reader.read(cut(inventory, lo, min(lo + 4, inventory.rows)))
    assert len(opener.files) == 2  # the file without rows is never opened
    heads = 8 * len(opener.files)
    assert opener.bytes_read() == sum(f.file.size_bytes for f in inventory.files if f.rows) + heads


@pytest.mark.case(32)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_ends_too_early_is_told(tmp_path, kind):
    source = open_path(write_files(tmp_path, kind))
    inventory = source.inventory()
    file = inventory.files[2].file
    position = inventory.files[2].blocks[0].position
    reader = source.open_reader(inventory.schema)
    with pytest.raises(SourceUnreadable, match=r"part-2.*: has 5 rows, 9 were expected"):
        reader.read([Slice(file, 0, 9, 0, position)])
    assert reader.read([Slice(file, 0, 5, 0, position)]).table.num_rows == 5


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    source = open_path(write_files(tmp_path, "csv"))
    inventory = source.inventory()

    def refuse(uri: str) -> None:
        raise PermissionError(13, "Permission denied", uri)

    monkeypatch.setattr(bytestream, "open_file", refuse)
    with pytest.raises(SourceForbidden, match=r"part-0\.csv: may not be read: .*Permission denied"):
        source.open_reader(inventory.schema).read(cut(inventory, 0, 1))


def test_an_identity_is_a_value():
    assert FileId("a", 1, "x") == FileId("a", 1, "x") != FileId("a", 1, "y")
