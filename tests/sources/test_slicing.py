"""The property that matters: however the rows are cut, in whatever order they are read, they are the rows."""

import pickle
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchneuron.sources import Inventory, ShardRows, Source, lines
from tests.sources.reading import cut, open_path, read_all, rejected
from tests.sources.writing import FILE_ROWS, KINDS, all_rows, write_files


@dataclass
class Opened:
    source: Source
    inventory: Inventory
    whole: ShardRows


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_RECORDS", 8)
        patch.setattr(lines, "CHUNK_BYTES", 300)
        yield


def open_whole(path, **words):
    source = open_path(path, **words)
    return Opened(source, source.inventory(), read_all(source))


@pytest.fixture(scope="module", params=[*KINDS, "saved", "damaged.jsonl", "damaged.csv"])
def opened(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    if request.param == "saved":
        import datasets

        datasets.Dataset.from_dict(all_rows().to_pydict()).save_to_disk(folder / "saved", num_shards=2)
        return open_whole(folder / "saved")
    if request.param in KINDS:
        return open_whole(write_files(folder, request.param))
    path = folder / request.param
    path.write_bytes(DAMAGED[request.param])
    return open_whole(path)


DAMAGED = {
    "damaged.jsonl": b"".join(
        [
            b'{"id": "%d", "text": "\xc3\xa9"}\n',
            b'{"id": %d}\n',
            b"\r\n",
            b"null %d\n",
            b'{"id": "%d\xff"}\r\n',
        ][n % 5].replace(b"%d", str(n).encode())
        for n in range(50)
    ),
    "damaged.csv": b"id,text\n"
    + b"".join(
        [b'%d,"a\nb"\n', b"%d\n", b"\n", b'%d,5" p\r\n', b"%d,\xff\n", b"%d,a,b\n"][n % 6].replace(
            b"%d", str(n).encode()
        )
        for n in range(60)
    ),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_slices_in_any_order_are_the_whole(opened, data):
    rows = opened.inventory.rows
    bounds = sorted(data.draw(st.sets(st.integers(0, rows), max_size=8)) | {0, rows})
    ranges = list(pairwise(bounds))
    schema = opened.inventory.schema
    shared = opened.source.open_reader(schema)
    pieces = {}
    for lo, hi in data.draw(st.permutations(ranges)):
        is_fresh = data.draw(st.booleans())
        reader = opened.source.open_reader(schema) if is_fresh else shared
        pieces[lo] = reader.read(cut(opened.inventory, lo, hi))
        assert pieces[lo].table.num_rows == hi - lo
        if is_fresh:
            reader.close()
    shared.close()
    joined = pa.concat_tables([pieces[lo].table for lo, _ in ranges])
    assert joined.to_pylist() == opened.whole.table.to_pylist()
    moved = {lo + row: text for lo, _ in ranges for row, text in rejected(pieces[lo]).items()}
    assert moved == rejected(opened.whole)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_rows_that_were_written(tmp_path, kind):
    source = open_path(write_files(tmp_path, kind))
    inventory = source.inventory()
    assert tuple(listed.rows for listed in inventory.files) == FILE_ROWS
    rows = read_all(source)
    assert rows.table.to_pydict() == all_rows().to_pydict()
    assert rows.table.schema == inventory.schema
    assert not rows.rejections


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "arrow"])
def test_a_source_and_an_inventory_travel_to_another_process(tmp_path, kind):
    source = open_path(write_files(tmp_path, kind))
    inventory = pickle.loads(pickle.dumps(source.inventory()))
    reader = pickle.loads(pickle.dumps(source)).open_reader(inventory.schema)
    assert reader.read(cut(inventory, 30, 40)).table.to_pydict() == all_rows().slice(30, 10).to_pydict()


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_follow_each_other(tmp_path, kind):
    for listed in open_path(write_files(tmp_path, kind)).inventory().files:
        assert [b.row_lo for b in listed.blocks] == [
            sum(b.rows for b in listed.blocks[:i]) for i in range(len(listed.blocks))
        ]
        assert all(block.size_bytes > 0 for block in listed.blocks if block.rows)


def test_a_reader_can_be_used_again_after_it_is_closed(tmp_path):
    source = open_path(write_files(tmp_path, "csv"))
    inventory = source.inventory()
    reader = source.open_reader(inventory.schema)
    first = reader.read(cut(inventory, 3, 20))
    reader.close()
    reader.close()
    assert reader.read(cut(inventory, 3, 20)).table == first.table


def test_no_slices_are_no_rows(tmp_path):
    source = open_path(write_files(tmp_path, "parquet"))
    schema = source.inventory().schema
    table = source.open_reader(schema).read([]).table
    assert table.num_rows == 0
    assert table.schema == schema
