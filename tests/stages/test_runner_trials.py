"""What a runner does with a shard that has killed workers: suspects alone first, and the guilty left out."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.rejection import Rejection
from batchneuron.sources.source import ShardRows
from batchneuron.spec.template import parse_template
from batchneuron.stages.columns import Columns
from batchneuron.stages.runner import Runner
from batchneuron.tasks.task import Decoded
from batchneuron.workers.case import Case, Suspects, recall_case
from batchneuron.workers.pulse import Place, Pulse
from tests.backends.arithmetic import load_all
from tests.stages.test_encode import LIMIT, WordEncoder, make_shard

LADDER = Ladder((Shape(4, 3), Shape(2, 9)))
TEXTS = ["aa", "bbbb bb", "cc", None, "dd", "ee", "ff", "gggg", "h"]
# Batches: the two long words together; then aa, bb, cc, dd; then ee, ff, h.


class Watching(Pulse):
    """A pulse that remembers."""

    def __init__(self):
        super().__init__()
        self.places = []

    def mark(self, lane, place):
        self.places.append(place)
        super().mark(lane, place)


class Stop(Exception):
    """The whole shard was to be decoded."""


class Decoder:
    """A task that remembers what it decoded, and stops at the whole."""

    schema = pa.schema([("sum", pa.int64())])

    def __init__(self):
        self.seen = []

    def decode(self, _items, rows, outputs):
        self.seen.append(outputs.stack(0).tolist())
        if rows == len(TEXTS) - 1:  # one is null
            raise Stop
        return Decoded(pa.table({"sum": [0] * rows}, schema=self.schema))


def open_fake(encoder=None, task=None, *, is_open=False):
    table = pa.table({"text": pa.array(TEXTS, pa.string())})
    order = SimpleNamespace(
        ladder=LADDER,
        columns=Columns({"text": parse_template("text")}, {}),
        limit=LIMIT,
        request=SimpleNamespace(model=SimpleNamespace(config={})),
        record=None,
    )
    reader = SimpleNamespace(read=lambda _: ShardRows(table))
    encoder = encoder or WordEncoder()
    executables = load_all(LADDER, is_open=is_open)
    return Runner(order, reader, encoder, task, executables, False, None, lambda _: None, Watching())


def run(runner, case):
    return runner.execute(runner.encode(make_shard(len(TEXTS)), case))


def seen(runner):
    """First letters of each batch that the device got."""
    return ["".join(map(chr, batch["input_ids"][:, 0])) for batch in runner.executables[0].seen]


def guilty(*rows):
    return tuple(Rejection(row, "worker_crash", "SIGSEGV") for row in rows)


@pytest.mark.parametrize(
    ("policy", "deaths", "is_read"), [("skip", 1, True), ("skip", 2, False), ("fail", 2, True)]
)
def test_what_killed_two_readers_is_not_read_again_where_bad_files_may_be_skipped(policy, deaths, is_read):
    runner = open_fake()
    runner.order.spec = SimpleNamespace(input=SimpleNamespace(on_bad_file=policy))
    runner.order.read_schema = pa.schema([("text", pa.string())])

    encoded = runner.encode(make_shard(len(TEXTS)), Case(read_deaths=("it died",) * deaths)).data

    assert (len(encoded.accepted) > 0) is is_read
    if not is_read:
        assert [(each.row, each.code) for each in encoded.rejections] == [
            (n, "bad_file") for n in range(len(TEXTS))
        ]
        assert encoded.rejections[0].message == "f: reading it has failed twice: it died"


def test_without_a_case_every_batch_is_announced_before_it_runs():
    runner = open_fake()
    run(runner, Case())

    assert seen(runner) == ["bg", "abcd", "efhe"]
    places = [place for place in runner.pulse.places if place.stage == "execute"]
    assert places == [
        Place(3, "execute", 0, 0, 2, 2),
        Place(3, "execute", 1, 0, 4, 4),
        Place(3, "execute", 2, 0, 3, 3),
    ]


def test_suspects_run_alone_in_their_shape_before_all_else():
    runner = open_fake()
    predicted = run(runner, Case(suspects=Suspects("execute", 1, ((1, 3), (3, 4)))))

    assert seen(runner) == ["bbcb", "dddd", "bg", "abcd", "efhe"]
    trials = [place for place in runner.pulse.places if place.stage == "execute"][:2]
    assert trials == [Place(3, "execute", 1, 1, 3, 4), Place(3, "execute", 1, 3, 4, 4, row=4)]
    assert predicted.executed.slots == 2 * 9 + 4 * 3 + 4 * 3, "trials are not counted"


def test_where_a_batch_need_not_be_full_a_suspect_has_as_many_rows_beside_it_as_before():
    runner = open_fake(is_open=True)
    predicted = run(runner, Case(suspects=Suspects("execute", 2, ((0, 1), (1, 3)))))

    assert seen(runner) == ["eee", "ffh", "bg", "abcd", "efh"]
    assert predicted.executed.slots == 2 * 9 + 4 * 3 + 3 * 3


def test_the_guilty_are_left_out_with_all_their_items_and_the_others_keep_their_slots():
    whole, holed = open_fake(), open_fake()
    before = run(whole, Case())

    after = run(holed, Case(deadly=guilty(1, 4)))

    assert seen(holed) == ["gg", "aaca", "efhe"]
    assert {r.row: r.code for r in after.data.rejections} == {
        **{1: "worker_crash", 4: "worker_crash"},
        3: "null_input",
    }
    stays = np.isin(before.data.accepted[before.data.items.rows], after.data.accepted)
    assert after.executed.outputs.stack(0).tolist() == before.executed.outputs.stack(0)[stays].tolist()


def test_batches_keep_their_numbers_when_all_of_one_is_guilty():
    runner = open_fake()
    run(runner, Case(deadly=guilty(1, 7), suspects=Suspects("execute", 2, ((0, 1),))))

    assert seen(runner) == ["eeee", "aacd", "efhe"]
    assert [p.batch for p in runner.pulse.places if p.stage == "execute"] == [2, 1, 2]


def test_a_shard_of_nothing_but_guilty_rows_runs_nothing():
    runner = open_fake()
    predicted = run(runner, Case(deadly=guilty(0, 1, 2, 4, 5, 6, 7, 8)))

    assert seen(runner) == []
    assert len(predicted.data.accepted) == 0


def test_suspects_are_encoded_alone_before_all_else_and_the_unreadable_never():
    encoder = WordEncoder()
    runner = open_fake(encoder)
    run(runner, Case(unreadable=guilty(2), suspects=Suspects("encode", -1, ((1, 4), (2, 3), (8, 9)))))

    assert encoder.seen == [["bbbb bb"], ["h"], ["aa", "bbbb bb", "dd", "ee", "ff", "gggg", "h"]]
    places = [place for place in runner.pulse.places if place.stage == "encode"]
    assert places == [
        Place(3, "encode", -1, 1, 4, 9),
        Place(3, "encode", -1, 2, 3, 9, row=2),
        Place(3, "encode", -1, 8, 9, 9, row=8),
        Place(3, "encode", -1, 0, 9, 9),
    ]


def test_what_came_of_suspects_is_decoded_alone_before_all_else():
    task = Decoder()
    runner = open_fake(task=task)
    predicted = run(runner, Case(suspects=Suspects("decode", -1, ((0, 2), (3, 4), (4, 5)))))
    with pytest.raises(Stop):
        runner.finish(predicted)

    whole = predicted.executed.outputs.stack(0).tolist()
    assert task.seen == [whole[:3], whole[4:5], whole], "row 1 is two items, row 3 is null"
    assert [place for place in runner.pulse.places if place.stage == "decode"] == [
        Place(3, "decode", -1, 0, 2, 9),
        Place(3, "decode", -1, 3, 4, 9, row=3),
        Place(3, "decode", -1, 4, 5, 9, row=4),
        Place(3, "decode", -1, 0, 9, 9),
    ]


def test_rows_to_be_decoded_alone_are_cut_out_of_their_shard():
    """What is held of them grows with their number alone, however many ranges there are."""
    case = Case(deadly=guilty(5), suspects=Suspects("decode", -1, ((0, 2), (3, 4), (4, 7))))

    trials = open_fake().encode(make_shard(len(TEXTS)), case).trials

    whole = make_shard(len(TEXTS))
    assert [(t.data.shard.row_lo - whole.row_lo, t.data.shard.rows) for t in trials] == [
        (0, 2),
        (3, 1),
        (4, 3),
    ]
    assert [t.data.kept.num_rows or t.data.truncated.size for t in trials] == [2, 1, 3]
    assert [[(r.row, r.code) for r in t.data.rejections] for t in trials] == [
        [],
        [(0, "null_input")],
        [(1, "worker_crash")],
    ]
    assert [t.data.accepted.tolist() for t in trials] == [[0, 1], [], [0, 2]]


@pytest.mark.parametrize("code", ["worker_crash", "worker_hang", "out_of_memory"])
def test_a_part_remembers_what_must_not_be_touched(code):
    errors = [None, {"code": code, "message": "it died"}, {"code": "null_input", "message": "null"}]

    assert recall_case(errors) == Case(unreadable=(Rejection(1, code, "it died"),))
