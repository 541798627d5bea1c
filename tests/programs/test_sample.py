"""A call on a sample: a row that kills whoever runs it does not end the run; what is no row's fault does."""

import functools
from dataclasses import replace

import pytest

from batchneuron.errors import BackendError, BatchNeuronError, DeviceFault, ModelError, WorkerFailed
from batchneuron.planning.plan import Shard, head_slices
from batchneuron.programs.sample import call_on_sample
from batchneuron.sources.source import FileId, Slice

FILE = FileId("rows", 1, "v")


def make_shards(*rows):
    """Shards of so many rows, each of two slices where it can."""
    shards, start = [], 0
    for index, count in enumerate(rows):
        cut = start + count // 3
        pieces = (Slice(FILE, start, cut, start, 0), Slice(FILE, cut, start + count, cut, 1))
        shards.append(Shard(index, start, tuple(piece for piece in pieces if piece.rows)))
        start += count
    return shards


def read_heads(shards, rows=4):
    """Ordinals of the first rows of each shard, as its slices have them."""
    found = []
    for shard in shards:
        slices = head_slices(shard, rows)
        assert not slices or slices[0].row_lo == shard.row_lo
        assert all(piece.block_row <= piece.row_lo for piece in slices)
        found += [row for piece in slices for row in range(piece.row_lo, piece.row_hi)]
    return found


class Deadly:
    """A process that dies of some rows; remembers what it was given."""

    def __init__(self, *rows, error=WorkerFailed):
        self.rows, self.error, self.tries = rows, error, []

    def __call__(self, call, name):
        given = call()
        self.tries.append(given)
        if set(given) & set(self.rows):
            raise self.error(f"the process of the {name} died")
        return given

    def run(self, shards):
        return call_on_sample(
            lambda some: functools.partial(read_heads, some), shards, self, "test", "do without"
        )


def test_all_is_well_with_the_first_rows_of_all_shards():
    assert Deadly().run(make_shards(10, 10)) == [0, 1, 2, 3, 10, 11, 12, 13]


@pytest.mark.parametrize("row", [0, 3, 12])
def test_a_deadly_row_is_avoided_by_other_rows_of_the_same_shards(row):
    deadly = Deadly(row)

    assert deadly.run(make_shards(10, 10)) == [5, 6, 7, 8, 15, 16, 17, 18]
    assert len(deadly.tries) == 2


@pytest.mark.parametrize("row", range(4))
def test_so_it_is_where_all_rows_are_in_the_sample(row):
    assert Deadly(row).run(make_shards(4)) == ([2, 3] if row < 2 else [0, 1])


def test_an_input_that_is_one_deadly_row_is_told():
    deadly = Deadly(0)

    with pytest.raises(BackendError, match="the process of the test died, whichever rows it had") as caught:
        deadly.run(make_shards(1))
    assert "take them out, or do without" in caught.value.hint
    assert caught.value.exit_code == 78
    assert deadly.tries == [[0], [0]]


def test_what_kills_every_time_is_told():
    with pytest.raises(BackendError):
        Deadly(*range(20)).run(make_shards(10, 10))


def test_a_row_that_makes_a_library_raise_is_avoided_too_unless_all_do():
    """The class itself is what is none of our errors."""
    assert Deadly(0, error=BatchNeuronError).run(make_shards(10, 10)) == [5, 6, 7, 8, 15, 16, 17, 18]

    with pytest.raises(BatchNeuronError) as caught:
        Deadly(*range(20), error=BatchNeuronError).run(make_shards(10, 10))
    assert type(caught.value) is BatchNeuronError
    assert caught.value.exit_code == 70


@pytest.mark.parametrize("error", [DeviceFault, ModelError])
def test_what_the_device_or_the_model_says_is_no_row_s_fault(error):
    deadly = Deadly(0, error=error)

    with pytest.raises(error):
        deadly.run(make_shards(10, 10))
    assert len(deadly.tries) == 1


def test_an_input_without_rows_is_asked_once():
    assert Deadly().run([replace(*make_shards(0), slices=())]) == []


def test_at_most_sixteen_shards_are_asked():
    assert len(Deadly().run(make_shards(*[10] * 40))) == 16 * 4
