"""Shapes through a shared store: a fresh machine plans what another has compiled, and compiles nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from batchneuron.artifacts import exchange
from batchneuron.artifacts.share import FolderShare, Unreachable
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import BackendError
from batchneuron.planning import prepare as prepare_module
from batchneuron.planning.cost import DeviceCost
from batchneuron.planning.ladder import LadderRequest, Sample, list_candidates, plan_ladder
from batchneuron.planning.prepare import make_plan, prepare
from batchneuron.planning.preview import preview_run
from batchneuron.planning.shapes import Shape
from batchneuron.run import run_job
from batchneuron.stages import runner as runner_module
from batchneuron.watch import Watch
from tests.backends.planted import PlantedBackend, none
from tests.tiny import write_rows

AUTO = ("shapes.sequence_length=auto", "shapes.batch_size=auto")


@dataclass(slots=True)
class SlowCompiler(PlantedBackend):
    """Compiles each shape, which takes it as long as five hundred slots of the tiny model."""

    @property
    def facts(self):
        facts = PlantedBackend.facts.fget(self)
        cost = DeviceCost(per_call_s=10.0, flop_per_s=24 * 2 * 16**2, compile_s=500.0)
        return replace(facts, is_reference=True, batch_slots=256, cost=cost)


@pytest.fixture
def move(monkeypatch, tmp_path):
    """To another machine: its own cache, the same kind of backend."""

    def open_slow(spec, *, elsewhere=False):
        eager = spec.backend.model_copy(update={"precision": "float32"})
        return SlowCompiler(TorchBackend(eager, spec.model), "float32", none)

    for module in (prepare_module, runner_module):
        monkeypatch.setattr(module, "open_backend", open_slow)
    return lambda name: monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


@pytest.fixture
def night(make_spec, tmp_path):
    """The job over the rows of some night, which are never those of another."""

    def make(number, *overrides):
        rows = write_rows(tmp_path / f"rows {number}", (400 + number,), seed=number)
        places = (f"input.path={rows}", f"output.path={tmp_path / f'out {number}'}", "output.shard_rows=200")
        return make_spec(*AUTO, f"backend.artifacts={tmp_path / 'share'}", *places, *overrides)

    return make


def run(spec):
    """What became of each shape's program."""
    told = []
    run_job(spec, watch=Watch(on_compile=lambda event, _: told.append((event.step, str(event.shape)))))
    return told


def plan_shapes(spec):
    return {str(shape) for shape in make_plan(prepare(spec)).ladder.shapes}


def test_a_second_machine_takes_the_first_one_s_shapes_and_compiles_nothing(move, night):
    move("one")
    compiled = {shape for step, shape in run(night(1)) if step == "compiled"}
    assert len(compiled) > 1

    move("two")
    alone = plan_shapes(night(2, "backend.artifacts=null"))
    preview = preview_run(night(2))

    assert not alone <= compiled, "these rows alone would have other shapes"
    assert set(preview.shapes) <= compiled
    assert preview.to_compile == 0
    assert run(night(2)) == [("fetched", shape) for shape in reversed(preview.shapes)]


def test_the_share_is_asked_only_where_something_is_missing(move, night, monkeypatch):
    move("one")
    run(night(1))
    monkeypatch.setattr(FolderShare, "list_keys", lambda _: pytest.fail("asked"))

    assert {step for step, _ in run(night(2))} == {"reused"}
    move("two")
    with pytest.raises(pytest.fail.Exception, match="asked"):
        plan_shapes(night(2))


def test_with_a_lock_only_what_it_names_is_counted_on(move, night, tmp_path):
    move("one")
    run(night(1))
    lock = tmp_path / "lock.json"
    lock.write_text(json.dumps({}))

    move("two")
    locked = night(2, f"backend.artifacts_lock={lock}")

    assert plan_shapes(locked) == plan_shapes(night(2, "backend.artifacts=null"))
    assert preview_run(locked).to_compile == len(plan_shapes(locked))
    keys = exchange.list_shared_keys(exchange.Sharing(str(tmp_path / "share")))
    lock.write_text(json.dumps(dict.fromkeys(keys, "0" * 64)))
    assert plan_shapes(locked) == plan_shapes(night(2))


@pytest.mark.parametrize("error", [Unreachable("no answer"), BackendError("no such bucket")])
def test_a_share_that_cannot_be_asked_changes_no_plan(move, night, monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(FolderShare, "list_keys", fail)
    move("one")

    assert plan_shapes(night(1)) == plan_shapes(night(1, "backend.artifacts=null"))


def test_a_backend_with_one_program_for_all_shapes_asks_for_none(make_spec, monkeypatch, tmp_path):
    monkeypatch.setattr(FolderShare, "list_keys", lambda _: pytest.fail("asked"))

    make_plan(prepare(make_spec(*AUTO, f"backend.artifacts={tmp_path}")))


@pytest.mark.parametrize(
    "request_",
    [
        LadderRequest(512, batch_slots=2048),
        LadderRequest(77, batch_size=5),
        LadderRequest(2000, max_shapes=3),
        LadderRequest(48, (8, 16, 48)),
    ],
)
def test_whatever_is_planned_was_among_the_candidates(request_):
    candidates = set(list_candidates(request_))
    for seed in range(1, 40):
        lengths = np.arange(3, 3 + seed * 7).clip(max=request_.limit_tokens)
        sample = Sample(lengths.astype("int32"), 100.0 * seed, seed)
        assert set(plan_ladder(sample, request_).shapes) <= candidates


def test_candidates_of_a_user_s_own_ladder_are_its_lengths():
    assert list_candidates(LadderRequest(16, (8, 16), batch_size=4)) == (Shape(4, 8), Shape(4, 16))
