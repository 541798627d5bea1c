"""int8 output: measured once, the same for every worker and every later runner."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from batchneuron.planning.plan import Shard
from batchneuron.programs.calibrate import calibrate
from batchneuron.run import run_job
from batchneuron.sources.source import FileId, Slice


@pytest.fixture
def overrides(encoder):
    return ("task=feature-extraction", f"model.id={encoder}", "options={normalize: true, dtype: int8}")


def read_numbers(folder):
    table = pq.read_table(folder / "data")
    return table.schema.field("embedding").metadata, np.array(table["embedding"].to_pylist())


@pytest.mark.thorough
def test_a_calibration_is_the_same_in_this_process_and_in_workers(make_spec, overrides, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    run_job(make_spec(*overrides, f"output.path={here}"))
    run_job(make_spec(*overrides, f"output.path={there}", "backend.workers=2"))

    metadata, numbers = read_numbers(here)
    assert (numbers.shape, numbers.min(), numbers.max()) == ((42, 16), -128, 127)
    assert metadata == read_numbers(there)[0]
    assert np.array_equal(numbers, read_numbers(there)[1])


def test_numbers_go_back_to_the_vectors(make_spec, overrides, tmp_path):
    run_job(make_spec(*overrides, f"output.path={tmp_path / 'small'}"))
    run_job(make_spec(*overrides, f"output.path={tmp_path / 'exact'}", "options.dtype=float32"))

    metadata, numbers = read_numbers(tmp_path / "small")
    steps = np.array(json.loads(metadata[b"int8_steps"]))
    back = np.array(json.loads(metadata[b"int8_minimums"])) + (numbers + 128.0) * steps
    exact = read_numbers(tmp_path / "exact")[1]
    assert np.all(np.abs(back - exact) <= steps / 2 + 1e-6)


def test_a_resumed_run_keeps_the_ranges_it_was_opened_with(make_spec, overrides, tmp_path):
    spec = make_spec(*overrides)
    run_job(spec)
    metadata, numbers = read_numbers(tmp_path / "out")
    next((tmp_path / "out" / "data").iterdir()).unlink()

    summary = run_job(spec)

    assert len(summary.done_now) == 1
    assert read_numbers(tmp_path / "out")[0] == metadata
    assert np.array_equal(read_numbers(tmp_path / "out")[1], numbers)


def test_an_input_of_one_shard_is_measured_all_over(monkeypatch):
    measured = []
    nothing = SimpleNamespace(data=SimpleNamespace(accepted=()))
    runner = SimpleNamespace(
        task=SimpleNamespace(calibrate=lambda _: {}),
        encode=lambda shard: measured.extend(shard.slices),
        execute=lambda _: nothing,
    )
    monkeypatch.setattr("batchneuron.programs.calibrate.open_runner", lambda *_: runner)

    calibrate(None, [Shard(0, 0, (Slice(FileId("rows", 1, "v"), 0, 4_000, 0, 0),))], lambda call, _: call())

    assert [piece.rows for piece in measured] == [128] * 16
    assert (measured[0].row_lo, measured[-1].row_hi) == (0, 4_000)
