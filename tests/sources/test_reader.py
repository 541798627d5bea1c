"""Files that changed since they were listed, and cursors that stream."""

import os
from dataclasses import replace

import pyarrow as pa
import pytest

from batchneuron.errors import SourceChanged, SourceForbidden, SourceUnavailable, SourceUnreadable
from batchneuron.sources import FileId, Slice, arrow, bytestream, files, parquet
from tests.sources.counting import CountingOpener
from tests.sources.reading import cut, open_path
from tests.sources.silence import Clock, Silence
from tests.sources.writing import KINDS, all_rows, write_files


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


@pytest.mark.case(32)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("on_bad_file", ["fail", "skip"])
def test_a_file_that_is_written_over_while_it_is_open_is_refused(tmp_path, kind, on_bad_file):
    """The same cursor goes on in it, and finds old rows, new ones, or what looks like damage."""
    source = open_path(write_files(tmp_path, kind), on_bad_file=on_bad_file)
    inventory = source.inventory()
    reader = source.open_reader(inventory.schema)
    assert reader.read(cut(inventory, 0, 9)).table.num_rows == 9
    path = next(tmp_path.glob("part-0*"))
    with path.open("r+b") as file:
        file.write(path.read_bytes()[::-1])
    os.utime(path, ns=(1, 1))  # the kernel's clock may not have ticked

    with pytest.raises(SourceChanged, match=r"part-0.*: the file changed since the run was planned"):
        reader.read(cut(inventory, 9, 42))


@pytest.mark.case(19)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passes", [0, 2])
def test_what_gives_no_answer_for_a_while_is_read_again(tmp_path, kind, passes, monkeypatch):
    clock = Clock()
    source = replace(open_path(write_files(tmp_path, kind)), patience=clock.patience)
    inventory = source.inventory()
    silence = Silence(passes, 5)
    for module in (arrow, bytestream, parquet):
        monkeypatch.setattr(module, "open_file", silence)

    reader = source.open_reader(inventory.schema)
    tables = [reader.read(cut(inventory, lo, lo + 14)).table for lo in (0, 14, 28)]

    assert pa.concat_tables(tables).to_pylist() == all_rows().to_pylist()
    assert len(clock.rests) == 5 and silence.failures == 0


@pytest.mark.case(19)
def test_patience_with_what_gives_no_answer_ends(tmp_path, monkeypatch):
    clock = Clock()
    source = replace(open_path(write_files(tmp_path, "jsonl")), patience=clock.patience)
    inventory = source.inventory()
    monkeypatch.setattr(bytestream, "open_file", Silence(0, float("inf")))

    with pytest.raises(
        SourceUnavailable, match=r"part-0\.jsonl: cannot be read now: .*asked again for 600 s"
    ):
        source.open_reader(inventory.schema).read(cut(inventory, 0, 1))

    assert 600 <= sum(clock.rests) < 630
    assert max(clock.rests) <= 30


def test_a_last_look_that_gets_no_answer_is_taken_again(tmp_path, monkeypatch):
    clock = Clock()
    source = replace(open_path(write_files(tmp_path, "csv")), patience=clock.patience)
    inventory = source.inventory()
    answers = iter([None, SourceUnavailable("no answer"), SourceUnavailable("no answer"), None])

    def verify(_file):
        if (error := next(answers)) is not None:
            raise error

    monkeypatch.setattr(files, "verify_unchanged", verify)
    assert source.open_reader(inventory.schema).read(cut(inventory, 0, 9)).table.num_rows == 9
    assert len(clock.rests) == 2


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
