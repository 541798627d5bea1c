"""Real worker processes: what they own, and how a job ends that they cannot do."""

import os
import shutil
from types import SimpleNamespace

import multiprocess
import numpy as np
import pytest

from batchneuron.backends.backend import Core
from batchneuron.backends.machine import list_cpus
from batchneuron.engines import choose_aside, open_engine
from batchneuron.errors import ModelError, SourceChanged
from batchneuron.planning.prepare import prepare
from batchneuron.run import Watch, open_run, run_job
from batchneuron.stages.runner import open_runner
from batchneuron.workers.events import PartDone
from batchneuron.workers.worker import own_process
from tests.faults.harness import read_rows
from tests.tiny import write_rows


def describe_worker(order, core, connection):
    """What a worker process is like once its runner is open and has predicted something."""
    own_process(core)
    import torch

    runner = open_runner(order, lambda _: None)
    shape = order.artifacts[0].shape
    runner.executables[0](*(np.ones((shape.batch_size, shape.sequence_length), np.int64) for _ in range(3)))
    connection.send(
        {
            "cpus": os.sched_getaffinity(0),
            "torch threads": torch.get_num_threads(),
            "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"],
            "TOKENIZERS_PARALLELISM": os.environ["TOKENIZERS_PARALLELISM"],
        }
    )


def test_a_worker_has_one_cpu_and_one_torch_thread(make_spec):
    opened = open_run(prepare(make_spec()))
    core = opened.prepared.backend.list_cores()[-1]
    ours, theirs = multiprocess.Pipe()
    context = multiprocess.get_context("spawn")
    process = context.Process(target=describe_worker, args=(opened.order, core, theirs), daemon=True)
    process.start()

    assert ours.poll(60)
    assert ours.recv() == {
        "cpus": {list_cpus()[-1]},
        "torch threads": 1,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    process.join(10)


def list_own_cpus():
    return os.sched_getaffinity(0)


def test_what_is_done_before_there_are_workers_has_all_cpus(make_spec):
    aside = choose_aside(prepare(make_spec()).backend, 2, None)

    assert aside(list_own_cpus, "test") == set(list_cpus())


def test_on_cores_of_which_only_one_process_can_have_each_it_has_the_first_one_s(monkeypatch):
    cpus = list_cpus()
    cores = tuple(Core(index, (cpu,), is_exclusive=True) for index, cpu in enumerate(cpus))
    backend = SimpleNamespace(list_cores=lambda: cores)

    assert choose_aside(backend, "auto", None)(list_own_cpus, "test") == {cpus[0]}


def test_workers_own_different_cpus(make_spec):
    cores = open_engine(2, prepare(make_spec()).backend).cores

    assert [len(core.cpus) for core in cores] == [1, 1]
    assert len({core.cpus for core in cores}) == min(2, len(list_cpus()))


@pytest.mark.case(3)
def test_a_worker_that_is_killed_is_replaced_and_every_row_is_there_once(make_spec, tmp_path):
    killed = []

    def kill_one(event):
        if isinstance(event, PartDone) and not killed:
            victim = multiprocess.active_children()[0]
            victim.kill()
            killed.append(victim.pid)

    run_job(make_spec("backend.workers=2", "output.shard_rows=2"), watch=Watch(on_event=kill_one))

    assert len(killed) == 1
    assert read_rows(tmp_path / "out")["_row"].to_pylist() == list(range(42))


@pytest.fixture
def torn_model(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "torn")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    return folder


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_torn_weights_end_the_job_and_the_message_names_their_folder(workers, torn_model, make_spec):
    with pytest.raises(ModelError) as ended:
        run_job(make_spec(f"model.id='{torn_model}'", f"backend.workers={workers}"))

    assert ended.value.exit_code == 78
    assert str(torn_model) in str(ended.value)


@pytest.mark.case(32)
@pytest.mark.parametrize("harm", ["altered", pytest.param("deleted", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("workers", [0, 1])
def test_an_input_file_that_changes_after_planning_ends_the_job_by_its_name(
    workers, harm, make_spec, tmp_path
):
    rows = write_rows(tmp_path / "rows")
    victim = rows / "rows-2.parquet"

    def spoil(_):
        if harm == "deleted":
            victim.unlink()
        else:
            write_rows(tmp_path / "rows", (37, 0, 6))

    with pytest.raises(SourceChanged) as ended:
        run_job(
            make_spec(f"input.path='{rows}'", f"backend.workers={workers}"),
            watch=Watch(on_open=spoil),
        )

    assert ended.value.exit_code == 65
    assert "rows-" in str(ended.value)
    if harm == "deleted":
        assert str(victim) in str(ended.value)
