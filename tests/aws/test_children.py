"""Children of an array job as processes with Batch's variables: one is missing, one dies, one is twice."""

from __future__ import annotations

import io
import signal
import time

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.ledger.status import read_status
from batchneuron.ledger.verify import verify_folder
from tests.aws import account
from tests.aws.account import QUEUE, Agent, count_parts, list_keys, read_object
from tests.faults.harness import GLOSSES, MODEL

pytestmark = pytest.mark.faults

ROWS = 1_600
PARTS = 32
OUT = "s3://acme/out"
FLAGS = ("--queue", QUEUE, "--image", "registry/batchneuron:1", "--instance-type", "inf2.xlarge")


@pytest.fixture
def agent(served, tmp_path):
    """A bucket with the quickstart's rows, and who runs jobs."""
    bucket = boto3.resource("s3").create_bucket(Bucket=account.BUCKET)
    bucket.upload_file(str(GLOSSES), "in/glosses.parquet")
    yield Agent(tmp_path)
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "labels.yaml"
    path.write_text(
        "task: text-classification\n"
        f"model: {{id: '{MODEL}'}}\n"
        "input:\n"
        "  {path: 's3://acme/in/*.parquet', columns: {text: definition}, keep: [synset], "
        f"limit: {ROWS}}}\n"
        "shapes: {batch_size: 16, sequence_length: [64, 128]}\n"
        "backend: {kind: torch, workers: 1}\n"
        f"output: {{path: '{OUT}', shard_rows: {ROWS // PARTS}}}\n"
    )
    return str(path)


def read_rows() -> pa.Table:
    tables = [pq.read_table(io.BytesIO(read_object(key))) for key in list_keys("out/data/")]
    return pa.concat_tables(tables).sort_by("_row")


def require_every_row_once():
    assert np.array_equal(read_rows()["_row"].to_numpy(), np.arange(ROWS))
    assert verify_folder(OUT).is_whole


def find_written():
    objects = boto3.resource("s3").Bucket(account.BUCKET).objects.filter(Prefix="out/data/")
    return {item.key: item.last_modified for item in objects}


def wait_until(command, is_so):
    deadline = time.monotonic() + 120
    while command.is_alive and not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_children_share_an_array_job_and_both_end_well(agent, job):
    submitted = agent.submit(job, *FLAGS, "--array-size", "2")

    assert agent.run(submitted["job_id"]) == [0, 0]
    require_every_row_once()
    assert agent.submit(job, *FLAGS)["job"] is None


def test_submit_waits_until_the_children_have_done_it_all(agent, job):
    before = set(agent.list_jobs())  # of other tests
    waiting = agent.submit_and_wait(job, *FLAGS, "--array-size", "2")
    wait_until(waiting, lambda: set(agent.list_jobs()) - before)
    (job_id,) = set(agent.list_jobs()) - before

    assert agent.run(job_id) == [0, 0]
    assert waiting.wait(60) == 0, waiting.stderr
    assert f"{PARTS} of {PARTS} shards" in waiting.stderr
    require_every_row_once()


def test_submit_waits_for_a_job_that_no_child_does(agent, job):
    waiting = agent.submit_and_wait(job, *FLAGS)

    assert waiting.wait(120) == 75
    assert "submit it again" in waiting.stderr


@pytest.mark.case(48)
def test_a_child_that_never_starts_one_that_is_killed_and_one_that_runs_twice(agent, job):
    job_id = agent.submit(job, *FLAGS, "--array-size", "4")["job_id"]
    killed, twin = agent.start(job_id, 1), agent.start(job_id, 0)
    wait_until(killed, lambda: count_parts() >= 4)
    killed.signal_all(signal.SIGKILL)
    others = [twin, agent.start(job_id, 0, attempt=2), agent.start(job_id, 2)]  # and child 3: never

    assert [command.wait(240) for command in others] == [0, 0, 0], [each.stderr for each in others]
    assert "slice 0/4, attempt 2" in others[1].stderr
    require_every_row_once()
    assert read_status(OUT).is_finished


@pytest.mark.case(48)
def test_a_job_whose_children_all_died_is_submitted_again_and_does_only_the_rest(agent, job):
    first = agent.submit(job, *FLAGS, "--array-size", "2")
    commands = [agent.start(first["job_id"], child) for child in (0, 1)]
    wait_until(commands[0], lambda: count_parts() >= 8)
    for command in commands:
        command.signal_all(signal.SIGKILL)
        command.wait()
    before = find_written()
    status = read_status(OUT)
    assert not status.is_finished and all(runner.is_silent for runner in status.runners)
    assert {runner.name for runner in status.runners} <= {"0/2", "1/2"}

    again = agent.submit(job, *FLAGS, "--array-size", "3")

    assert again["frozen"]["shards_done"] == len(before) < PARTS
    assert again["frozen"]["spec"] == first["frozen"]["spec"]
    assert agent.run(again["job_id"]) == [0, 0, 0]
    after = find_written()
    assert {key: after[key] for key in before} == before
    require_every_row_once()
