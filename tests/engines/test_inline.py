"""Everything in the calling process: no workers, the same events, and a stop between two shards."""

from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from batchneuron.backends.backend import Core
from batchneuron.engines import count_workers, deal_cpus, open_engine
from batchneuron.engines.inline import InlineEngine
from batchneuron.engines.processes import ProcessEngine
from batchneuron.errors import BatchNeuronError, Incomplete
from batchneuron.planning.prepare import prepare
from batchneuron.run import Watch, run_job
from batchneuron.tasks.text_classification import TextClassification
from batchneuron.workers.events import BatchDone, PartDone, RowIsolated
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


def raise_at(monkeypatch, scores):
    """Let the decoder raise where one of these scores comes out."""
    decode = TextClassification.decode

    def decode_or_raise(self, items, rows, outputs):
        if np.isin(outputs.stack(0).max(-1), scores).any():
            raise ValueError("this row is odd")
        return decode(self, items, rows, outputs)

    monkeypatch.setattr(TextClassification, "decode", decode_or_raise)


def test_a_row_whose_call_raises_is_rejected_and_the_others_are_as_they_were(
    make_spec, tmp_path, monkeypatch
):
    run_job(make_spec())
    calm = read_rows(tmp_path / "out")
    raise_at(monkeypatch, [calm["score"][row].as_py() for row in (17, 25)])

    summary = run_job(make_spec("errors.max_rejected=2"), overwrite=True)

    message = "ValueError: this row is odd, on this row alone"
    assert summary.isolated == (
        RowIsolated(1, 17, "worker_crash", message),
        RowIsolated(2, 25, "worker_crash", message),
    )
    rows, others = read_rows(tmp_path / "out"), [row for row in range(42) if row not in (17, 25)]
    assert [rows["_error"][row].as_py()["message"] for row in (17, 25)] == [message] * 2
    for name in ("label", "score", "_error"):
        assert rows[name].take(others).equals(calm[name].take(others))


def test_an_exception_of_every_row_is_told_with_its_traceback(make_spec, tmp_path, monkeypatch):
    run_job(make_spec())
    raise_at(monkeypatch, read_rows(tmp_path / "out")["score"].to_pylist())

    with pytest.raises(BatchNeuronError, match=r"(?s)9 rows of it.*decode_or_raise.*report it") as stopped:
        run_job(make_spec("errors.max_rejected=0.9"), overwrite=True)

    assert stopped.value.exit_code == 70


def test_an_error_of_the_listener_is_raised_as_it_is(make_spec):
    class Enough(Exception):
        """Of the caller's own."""

    def complain(event):
        if isinstance(event, BatchDone):
            raise Enough

    with pytest.raises(Enough):
        run_job(make_spec(), watch=Watch(on_event=complain))


def test_zero_workers_mean_this_process_and_more_workers_than_cores_share_them(make_spec):
    backend = prepare(make_spec()).backend
    cores = backend.list_cores()

    assert isinstance(open_engine(0, backend), InlineEngine)
    engine = open_engine(len(cores) + 1, backend)
    assert isinstance(engine, ProcessEngine)
    assert engine.cores == (*cores, cores[0])


@pytest.mark.parametrize(
    ("workers", "expected"),
    [(1, [(0, 1, 2, 3, 4)]), (2, [(0, 1), (2, 3, 4)]), (5, [(0,), (1,), (2,), (3,), (4,)])],
)
def test_cpus_without_a_worker_go_to_a_neighbour_s(workers, expected):
    cores = [Core(cpu, (cpu,), {"NAME": "x"}) for cpu in range(5)]

    dealt = deal_cpus(cores, workers)

    assert [core.cpus for core in dealt] == expected
    assert {core.environment["NAME"] for core in dealt} == {"x"}


def test_devices_are_not_dealt_out():
    cores = [Core(number, (number,), is_exclusive=True) for number in range(4)]

    assert deal_cpus(cores, 2) == tuple(cores[:2])


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


def test_a_core_that_belongs_to_one_process_gets_one_worker(make_spec):
    prepared = prepare(make_spec())
    shared, model = prepared.backend, prepared.request.model
    exclusive = SimpleNamespace(
        list_cores=lambda: (Core(4, is_exclusive=True), Core(5, is_exclusive=True)),
        memory_per_worker_bytes=lambda _: 1,
    )

    assert [count_workers(exclusive, model, wished) for wished in (0, 1, 2, 5, "auto")] == [0, 1, 2, 2, 2]
    assert count_workers(shared, model, 5) == 5
