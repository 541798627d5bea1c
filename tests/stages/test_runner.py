"""The runner: what it passes on to the stages, and what it says of them."""

from types import SimpleNamespace

import pytest

from batchneuron.backends.backend import BackendFacts
from batchneuron.planning.plan import Shard
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages import runner as module
from batchneuron.stages.runner import Encoded, Runner, open_runner
from batchneuron.workers.events import StageSeconds
from tests.backends.arithmetic import load_all, make_items

LADDER = Ladder((Shape(4, 3), Shape(3, 8)))
TOKENS = [[1], [2], [3], [4], [5], [6] * 8, [7] * 8]
ORDER = SimpleNamespace(
    ladder=LADDER,
    request=SimpleNamespace(
        task="t", options={}, model=SimpleNamespace(config={"vocab_size": 100}, digest="")
    ),
    spec=SimpleNamespace(input=None, output=SimpleNamespace(path="out")),
    artifacts=(),
    calibration=None,
    read_schema=None,
)


def execute(*, spills):
    executables, told = load_all(LADDER), []
    runner = Runner(ORDER, None, None, None, executables, spills, None, told.append)
    data = SimpleNamespace(items=make_items(TOKENS), accepted=range(len(TOKENS)), shard=Shard(0, 0, ()))
    encoded = Encoded(data, StageSeconds(read_s=1.0, encode_s=2.0))
    return runner.execute(encoded), [batch["input_ids"].shape for batch in executables[0].seen], told


@pytest.mark.parametrize(("spills", "shapes"), [(False, [(3, 8), (4, 3), (4, 3)]), (True, [(3, 8), (4, 3)])])
def test_left_overs_travel_in_longer_shapes_only_where_they_may(spills, shapes):
    predicted, seen, _ = execute(spills=spills)

    assert seen == shapes
    assert predicted.executed.outputs.stack(0).tolist() == [sum(ids) for ids in TOKENS]


def test_all_tokens_are_told_and_all_stages_timed():
    predicted, _, told = execute(spills=False)

    assert sum(told) == sum(map(len, TOKENS))
    assert (predicted.seconds.read_s, predicted.seconds.encode_s) == (1.0, 2.0)
    assert min(predicted.seconds.pad_s, predicted.seconds.device_s) > 0
    assert (predicted.seconds.decode_s, predicted.seconds.write_s) == (0.0, 0.0)


@pytest.mark.parametrize(("is_stable", "fills"), [(True, True), (False, True), (True, False)])
def test_left_overs_may_travel_where_bits_stay_and_batches_must_be_full(is_stable, fills, monkeypatch):
    facts = BackendFacts("x", "x", "x", {}, {}, 64, False, is_bit_stable_across_shapes=is_stable)
    opened = SimpleNamespace(open_encoder=lambda: None, open_reader=lambda schema: None)
    for name in ("open_task", "open_source", "open_store"):
        monkeypatch.setattr(module, name, lambda *_: opened)
    monkeypatch.setattr(module, "open_backend", lambda _: SimpleNamespace(facts=facts))
    monkeypatch.setattr(module, "must_fill", lambda _: fills)

    assert open_runner(ORDER, lambda _: None).spills is (is_stable and fills)
