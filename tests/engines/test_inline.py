"""Everything in the calling process: no workers, the same events, and a stop between two shards."""

import psutil
import pytest

from batchneuron.engines import count_workers, open_engine
from batchneuron.engines.inline import InlineEngine
from batchneuron.engines.processes import ProcessEngine
from batchneuron.errors import Incomplete
from batchneuron.events import BatchDone, PartDone
from batchneuron.prepare import prepare
from batchneuron.run import Watch, run_job
from tests.faults.harness import read_rows


def test_it_tells_of_every_batch_and_every_part_in_order(make_spec):
    events = []

    run_job(make_spec(), watch=Watch(on_event=events.append))

    parts = [event for event in events if isinstance(event, PartDone)]
    assert [part.shard for part in parts] == sorted(part.shard for part in parts)
    assert sum(part.rows for part in parts) == 42
    tokens = sum(event.tokens for event in events if isinstance(event, BatchDone))
    assert tokens == sum(part.tokens for part in parts) > 0


def test_it_starts_no_process(make_spec):
    children = []

    run_job(make_spec(), watch=Watch(on_event=lambda _: children.extend(psutil.Process().children())))

    assert [each for each in children if "spawn_main" in " ".join(each.cmdline())] == []


def test_it_stops_between_two_shards_and_goes_on_later(make_spec, tmp_path):
    parts = []
    watch = Watch(
        on_event=lambda event: parts.append(event) if isinstance(event, PartDone) else None,
        is_stopped=lambda: len(parts) >= 2,
    )

    with pytest.raises(Incomplete):
        run_job(make_spec(), watch=watch)
    summary = run_job(make_spec())

    assert len(parts) == 2
    assert len(summary.done_now) == summary.shards - 2
    assert read_rows(tmp_path / "out")["_row"].to_pylist() == list(range(42))


def test_zero_workers_mean_this_process_and_more_workers_than_cores_share_them(make_spec):
    backend = prepare(make_spec()).backend
    cores = backend.list_cores()

    assert isinstance(open_engine(0, backend), InlineEngine)
    engine = open_engine(len(cores) + 1, backend)
    assert isinstance(engine, ProcessEngine)
    assert engine.cores == (*cores, cores[0])


def test_auto_is_one_worker_per_core_that_memory_holds(make_spec, monkeypatch):
    prepared = prepare(make_spec())
    cores = len(prepared.backend.list_cores())
    per_worker = prepared.backend.memory_per_worker_bytes(prepared.request.model)

    def count(available_bytes):
        monkeypatch.setattr("batchneuron.engines.available_memory_bytes", lambda: available_bytes)
        return count_workers(prepared.backend, prepared.request.model)

    assert count(100 * per_worker) == cores
    assert count(per_worker + 1) == 1
    assert count(0) == 1
