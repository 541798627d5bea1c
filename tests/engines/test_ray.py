"""Actors of a Ray cluster on this machine, and what a node is asked before it does a shard."""

import io
import shutil
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from click.testing import CliRunner
from rich.console import Console

from batchneuron.backends.backend import Core
from batchneuron.cli import cli
from batchneuron.engines import Cluster, open_cluster_engine, ray_node
from batchneuron.engines.ray_crew import Needs, RayCrew
from batchneuron.engines.ray_files import localise, pack_files, stamp_model
from batchneuron.engines.ray_hand import RayHand
from batchneuron.engines.ray_letters import MODEL, Outbox, Wanted
from batchneuron.engines.ray_node import (
    choose_core,
    describe_node,
    require_input,
    require_run_folder,
    require_same,
)
from batchneuron.errors import BackendError, ModelError, OutputUnfit, SourceNotFound, SpecError
from batchneuron.open_run import open_run
from batchneuron.planning.prepare import prepare
from batchneuron.run import run_job
from batchneuron.showing.progress import Reporter
from batchneuron.stages.runner import open_runner
from batchneuron.watch import Watch
from batchneuron.workers.events import BatchDone, PartDone, RoomAwaited, WorkerReady
from tests.engines.clusters import STORE_BYTES
from tests.faults.harness import read_bits, read_rows


@pytest.fixture(scope="module")
def cluster():
    """Ray in this process, with two CPUs, whatever the machine has."""
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield Cluster()
    ray.shutdown()


@pytest.fixture
def opened(make_spec):
    return open_run(prepare(make_spec()))


@pytest.mark.thorough
def test_actors_give_the_bits_of_one_process_and_tell_the_same(cluster, make_spec, tmp_path):
    events = []
    run_job(make_spec())
    bits = read_bits(tmp_path / "out")
    watch = Watch(on_event=events.append)

    run_job(make_spec(f"output.path={tmp_path / 'ray'}", "backend.workers=2"), watch=watch, cluster=cluster)

    assert read_bits(tmp_path / "ray") == bits
    parts = [event for event in events if isinstance(event, PartDone)]
    batches = [event for event in events if isinstance(event, BatchDone)]
    assert sum(event.tokens for event in batches) == sum(part.tokens for part in parts) > 0
    assert any(isinstance(event, WorkerReady) for event in events)


@pytest.mark.ray
def test_what_is_measured_before_the_first_shard_is_measured_on_the_cluster(
    cluster, make_spec, encoder, tmp_path, monkeypatch
):
    """Ranges of quantised vectors: they are part of the plan, and so of the bits."""
    job = "task=feature-extraction", f"model.id='{encoder}'", "options={dtype: int8}"
    run_job(make_spec(*job))
    monkeypatch.setattr(
        "batchneuron.engines.call_aside", lambda *_: pytest.fail("this machine has no device")
    )

    run_job(make_spec(*job, f"output.path={tmp_path / 'ray'}", "backend.workers=1"), cluster=cluster)

    local, far = read_rows(tmp_path / "out"), read_rows(tmp_path / "ray")
    assert far["embedding"].combine_chunks() == local["embedding"].combine_chunks()


def test_files_that_a_node_has_not_come_from_the_driver(cluster, opened, tmp_path, monkeypatch):
    order, asked = opened.order, []
    names = [MODEL, *(artifact.key for artifact in order.artifacts)]
    parcels = {name: pack_files(order, name) for name in names}
    stamps = stamp_model(order.request.model)
    expected = predict(order, opened.missing[0])
    far = tmp_path / "far"
    model = replace(order.request.model, folder=far / "model")
    artifacts = tuple(replace(each, folder=far / each.key) for each in order.artifacts)
    away = replace(order, request=replace(order.request, model=model), artifacts=artifacts)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "node"))

    def ask(name):
        asked.append(name)
        return parcels[name]

    here = localise(away, stamps, ask)
    again = localise(away, stamps, ask)

    assert sorted(asked) == sorted(set(names)), "each once, and kept"
    assert again == here
    assert here.request.model.folder.is_relative_to(tmp_path / "node")
    assert np.array_equal(predict(here, opened.missing[0]), expected)


def predict(order, shard):
    runner = open_runner(order, lambda _: None)
    return runner.execute(runner.encode(shard)).executed.outputs.stack(0)


def test_a_node_on_the_same_disk_asks_for_nothing(opened):
    order = opened.order

    assert localise(order, stamp_model(order.request.model), lambda name: pytest.fail(name)) == order


def test_a_file_that_was_altered_on_its_way_is_refused(cluster, opened, tmp_path, monkeypatch):
    order = opened.order
    parcel = dict(pack_files(order, MODEL))
    parcel["config.json"] = ray.put(b"{}")
    far = replace(order.request.model, folder=tmp_path / "far")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "node"))
    away = replace(order, request=replace(order.request, model=far))

    with pytest.raises(ModelError, match="did not arrive whole"):
        localise(away, (), lambda _: parcel)


def test_a_node_with_other_versions_is_refused_by_their_names(opened):
    facts = dict(describe_node(opened.order.request.task, opened.prepared.backend.facts))
    require_same(opened.order, facts)

    with pytest.raises(BackendError, match=r"batchneuron: .* here, \"0\.0\.1\" there") as refused:
        require_same(opened.order, {**facts, "batchneuron": "0.0.1"})

    assert "node" in refused.value.where


def test_a_node_needs_no_compiler_to_run_the_driver_s_programs(opened, monkeypatch):
    task, facts = opened.order.request.task, opened.prepared.backend.facts
    expected = dict(describe_node(task, replace(facts, versions={**facts.versions, "chisel": "2"})))
    node = SimpleNamespace(facts=facts)
    monkeypatch.setattr(ray_node, "open_backend", lambda _: node)

    with pytest.raises(BackendError, match=r"versions\.chisel: null here"):
        require_same(opened.order, expected)
    node.facts = replace(facts, missing_compiler="chisel")
    require_same(opened.order, expected)


def test_a_node_that_sees_another_run_folder_or_another_input_is_refused(opened, tmp_path):
    file = opened.missing[0].slices[0].file
    require_input(file)
    require_run_folder(opened.order)

    with pytest.raises(SourceNotFound, match="does not see the input"):
        require_input(replace(file, uri=str(tmp_path / "nowhere.parquet")))
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    with pytest.raises(OutputUnfit, match="does not see this run folder"):
        require_run_folder(opened.order)


def test_no_two_actors_of_a_host_have_the_same_cpu():
    """Each takes a number that is its own for as long as its process lives: this one takes two."""
    cores = [Core(number, (number,)) for number in range(4)]

    assert len({choose_core(cores, 4).index for _ in range(3)}) == 3


def test_a_neuron_core_is_the_one_that_ray_has_assigned_with_its_share_of_cpus(monkeypatch):
    context = type("Context", (), {"get_accelerator_ids": lambda self: {"neuron_cores": ["3"]}})
    monkeypatch.setattr(ray, "get_runtime_context", context)
    shown = Core(3, tuple(range(16)), {"OMP_NUM_THREADS": "16", "OTHER": "16"}, is_exclusive=True)

    own = choose_core([shown], 8)

    assert own.cpus == (3, 11)
    assert own.environment == {"OMP_NUM_THREADS": "2", "OTHER": "16"}
    with pytest.raises(BackendError, match="core 3"):
        choose_core([replace(shown, index=0), replace(shown, index=1)], 2)


def test_an_outbox_adds_batches_up_and_keeps_nobody_waiting_for_the_rest():
    outbox = Outbox()
    for tokens in (3, 4):
        outbox.put(BatchDone(tokens))
    outbox.put(Wanted("model"))

    first = outbox.fetch(wait_s=60)
    threading.Timer(0.05, outbox.close).start()
    last = outbox.fetch(wait_s=60)

    assert (first.told, first.is_last) == ([BatchDone(7), Wanted("model")], False)
    assert (last.told, last.is_last) == ([], True)


def test_actors_are_asked_for_as_the_cluster_grows_and_some_always_wait(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    growing = RayCrew(None, None, Needs("CPU", 1), most=100)
    few = RayCrew(None, None, Needs("CPU", 1), most=4)
    fixed = RayCrew(None, None, Needs("CPU", 1), most=100, wished=8)

    assert [core.index for core in growing.find_cores()] == list(range(6))
    assert growing.find_cores() == ()
    assert [len(crew.find_cores()) for crew in (few, fixed)] == [4, 8]


def test_waiting_for_room_is_told_with_what_is_asked_for(monkeypatch):
    told = []
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "memory": 3.0 * 2**30})
    monkeypatch.setattr(ray, "wait", lambda *_, **__: ([], []))
    monkeypatch.setattr("batchneuron.engines.ray_crew._TELL_AFTER_S", -1.0)
    crew = RayCrew(None, None, Needs("neuron_cores", 1 << 30), most=4, tell=told.append)

    crew.wait([RayHand(None, None, None)], 0)
    crew.wait([RayHand(None, None, None)], 0)

    needs = "each actor needs 1 CPU, 1 neuron_cores, 1.0 GiB memory; in all it has 4 CPU, 3.0 GiB memory"
    assert told == [RoomAwaited(needs)]


def test_waiting_for_room_is_shown_to_people():
    text = io.StringIO()

    Reporter(Console(file=text, width=60)).on_event(RoomAwaited("each actor needs [2] cores"))

    first = text.getvalue().splitlines()[0]
    assert first == "waiting for room on the cluster: each actor needs [2] cores"


def test_an_address_without_the_engine_is_a_mistake(tmp_path):
    spec = tmp_path / "job.yaml"
    spec.write_text("task: text-classification\ninput: {path: rows.parquet}\noutput: {path: out}\n")

    told = CliRunner().invoke(cli, ["run", str(spec), "--address", "auto"])

    assert told.exit_code == 2
    assert "--engine ray" in told.output


def test_no_workers_are_refused(make_spec):
    backend = prepare(make_spec()).backend

    with pytest.raises(SpecError, match=r"backend\.workers"):
        open_cluster_engine(Cluster(), backend, 0)


def test_without_ray_the_message_says_what_to_install(make_spec, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(BackendError, match=r"pip install '\.\[ray\]'"):
        run_job(make_spec("backend.workers=1"), cluster=Cluster())
