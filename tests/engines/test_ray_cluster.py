"""Clusters that lose actors, nodes and drivers: every row once, and the bits of one machine.

The nodes are on this machine, with more CPUs and NeuronCores than it has; the program is the light one.
"""

import json
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.engines.clusters import (
    LIGHT,
    POISON,
    REAL,
    SIMULATED,
    STORE_BYTES,
    make_environment,
    open_cluster,
    start_driver,
)
from tests.faults.harness import quickstart_text, read_bits, read_rows, require_whole
from tests.simulated_jobs import make_light_job, make_tiny_job
from tests.simulator.machine import install

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

ROWS = 6_000
LIMIT = f"input.limit={ROWS}"
SHARDS = "output.shard_rows=200"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with open_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.add(cpus=8)
        yield cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The bits of the same job on one machine, in one process."""
    folder = tmp_path_factory.mktemp("local")
    spec = folder / "job.yaml"
    spec.write_text(quickstart_text(folder / "out"))
    words = [word for each in (LIMIT, SHARDS, "backend.workers=0") for word in ("--set", each)]
    subprocess.run(
        [sys.executable, "-m", LIGHT, "run", str(spec), *words],
        env={**os.environ, **make_environment(folder, LIGHT)},
        check=True,
        capture_output=True,
    )
    return read_bits(folder / "out")


@pytest.mark.parametrize("actors", [2, 8])
def test_any_number_of_actors_gives_the_bits_of_one_machine(actors, nodes, expected, tmp_path):
    driver = start_driver(nodes, tmp_path / "out", LIMIT, SHARDS, f"backend.workers={actors}")
    driver.wait_until(lambda: len(nodes.actors()) == actors)
    driver.end()

    require_whole(tmp_path / "out", ROWS)
    assert read_bits(tmp_path / "out") == expected


def test_a_killed_actor_is_replaced(nodes, expected, tmp_path):
    driver = start_driver(nodes, tmp_path / "out", LIMIT, SHARDS, "backend.workers=2")
    driver.wait_for_parts(3)
    nodes.actors()[0].kill()
    driver.end()

    assert read_bits(tmp_path / "out") == expected
    assert count_restarts(tmp_path / "out") == 1


def count_restarts(output):
    told = [json.loads(path.read_text()) for path in (output / ".batchneuron/progress").iterdir()]
    return sum(each["restarts"] for each in told)


def test_a_row_that_kills_actors_is_found_and_rejected(tmp_path):
    texts = [f"text {number}" for number in range(37)]
    texts[5], texts[30] = "a <segfault> row", "a <stop> row"
    pq.write_table(pa.table({"definition": texts}), tmp_path / "rows.parquet")
    with open_cluster(tmp_path, POISON) as cluster:
        cluster.add(cpus=2)
        start_driver(
            cluster,
            tmp_path / "out",
            f"input.path={tmp_path / 'rows.parquet'}",
            "output.shard_rows=20",
            "shapes={batch_size: 4, sequence_length: 32}",
            "errors={max_rejected: 2, hang_s: 10}",
            "backend.workers=2",
        ).end()

    rows = read_rows(tmp_path / "out")
    assert rows["_row"].to_pylist() == list(range(37))
    refused = {row: error["code"] for row, error in enumerate(rows["_error"].to_pylist()) if error}
    assert refused == {5: "worker_crash", 30: "worker_hang"}


def test_a_node_that_goes_takes_no_attempt_and_one_that_comes_is_used(expected, tmp_path):
    with open_cluster(tmp_path) as cluster:
        first, second = cluster.add(cpus=2), cluster.add(cpus=2)
        driver = start_driver(cluster, tmp_path / "out", LIMIT, SHARDS)
        driver.wait_until(lambda: len(cluster.actors()) == 4)
        driver.wait_for_parts(2)
        cluster.kill(first)
        cluster.kill(second)
        cluster.add(cpus=3)
        driver.wait_until(lambda: len(cluster.actors()) == 3)
        driver.end()

    assert read_bits(tmp_path / "out") == expected


def test_a_killed_driver_leaves_no_actor_and_its_run_is_taken_up(nodes, expected, tmp_path):
    driver = start_driver(nodes, tmp_path / "out", LIMIT, SHARDS, "backend.workers=2")
    driver.wait_for_parts(3)
    driver.stop(signal.SIGKILL)
    driver.end(-signal.SIGKILL)
    done = len(list((tmp_path / "out/data").iterdir()))

    again = start_driver(nodes, tmp_path / "out", LIMIT, SHARDS, "backend.workers=2")
    again.wait_until(lambda: len(nodes.actors()) == 2)
    again.end()

    assert 3 <= done < ROWS / 200
    assert read_bits(tmp_path / "out") == expected


def test_sigterm_lets_the_shards_in_hand_be_finished(nodes, expected, tmp_path):
    driver = start_driver(nodes, tmp_path / "out", LIMIT, SHARDS, "backend.workers=2")
    driver.wait_for_parts(2)
    driver.stop(signal.SIGTERM)
    told = driver.end(75)
    start_driver(nodes, tmp_path / "out", LIMIT, SHARDS, "backend.workers=2").end()

    assert "--engine ray" in told, "the command that takes it up"
    assert read_bits(tmp_path / "out") == expected


def test_too_many_rejected_rows_end_the_job(nodes, tmp_path):
    texts = [None if number % 7 == 0 else "text" for number in range(700)]
    pq.write_table(pa.table({"definition": texts}), tmp_path / "rows.parquet")
    driver = start_driver(
        nodes,
        tmp_path / "out",
        f"input.path={tmp_path / 'rows.parquet'}",
        "output.shard_rows=50",
        "errors.max_rejected=20",
        "backend.workers=2",
    )

    assert "errors.max_rejected" in driver.end(65)


def test_each_actor_has_the_neuron_core_that_ray_gives_it(tmp_path):
    machine = install(tmp_path / "machine", "inf2.8xlarge")
    job = make_light_job(tmp_path)
    with open_cluster(tmp_path, SIMULATED) as cluster:
        cluster.add(cpus=4, machine=machine, cores=2)
        start_driver(
            cluster,
            tmp_path / "out",
            LIMIT,
            SHARDS,
            "backend.kind=neuron-trace",
            machine=machine,
            text=job.text,
        ).end()

    assert read_rows(tmp_path / "out")["_row"].to_pylist() == list(range(ROWS))
    claims = machine.read_log("claim")
    assert sorted(core for claim in claims for core in claim["cores"]) == [0, 1]
    assert len({claim["pid"] for claim in claims}) == 2
    assert machine.read_log("refused") == []


def test_a_driver_without_a_device_compiles_and_lets_the_cluster_check_it(classifier, rows_folder, tmp_path):
    """Its machine has the stack alone; parity is measured on a core of the cluster."""
    bare = install(tmp_path / "bare", "none", "trace")
    node = install(tmp_path / "node", "inf2.8xlarge")
    job = make_tiny_job(tmp_path, classifier, rows_folder)
    kind = "backend.kind=neuron-trace", "backend.target=inf2"
    with open_cluster(tmp_path, REAL) as cluster:
        cluster.add(cpus=2, machine=node, cores=2)
        told = start_driver(
            cluster, tmp_path / "out", *kind, "backend.workers=1", machine=bare, text=job.text
        ).end()

    record = json.loads((tmp_path / "out/.batchneuron/run.json").read_text())
    assert record["parity"]["status"] == "measured", told
    assert read_rows(tmp_path / "out")["_row"].to_pylist() == list(range(42))
    assert bare.read_log("claim") == []


def test_a_predictor_maps_batches_of_a_data_set(make_spec, tmp_path):
    import ray

    from batchneuron import Predictor
    from batchneuron.run import run_job

    run_job(make_spec())
    expected = read_rows(tmp_path / "out")
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    try:
        rows = ray.data.from_arrow(expected.select(["id", "text"])).map_batches(
            Predictor,
            fn_constructor_kwargs={"spec": make_spec()},
            batch_size=10,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
        )
        made = {row["id"]: (row["label"], row["score"]) for row in rows.take_all()}
    finally:
        ray.shutdown()

    labels, scores = expected["label"].to_pylist(), expected["score"].to_pylist()
    assert made == dict(enumerate(zip(labels, scores, strict=True)))
