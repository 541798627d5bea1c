"""The command from a bucket to a bucket: a worker killed, all of it killed, taken up again, and shared."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.harness import GLOSSES, read_rows
from tests.faults.processes import LIGHT, Command, Job
from tests.stores import s3_faults

pytestmark = pytest.mark.faults

ROWS = 2_000
JOB = (
    "input.path=s3://nightly/in/glosses.parquet",
    f"input.limit={ROWS}",
    "input.keep=[synset]",
    "output.shard_rows=50",
    "shapes={batch_size: 16, sequence_length: [64, 128]}",
)
PARTS = 40


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A bucket with the quickstart's rows; processes that are started find it."""
    with s3_faults.serve() as url:
        s3_faults.use_endpoint(monkeypatch, url)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        bucket = boto3.resource("s3").create_bucket(Bucket="nightly")
        bucket.upload_file(str(GLOSSES), "in/glosses.parquet")
        yield bucket
        bucket.objects.delete()
        bucket.delete()


def start(folder: Path, *overrides: str) -> Command:
    return Job(folder, (*JOB, "output.path=s3://nightly/out", *overrides), LIGHT).start()


def count_parts(bucket) -> int:
    return sum(1 for _ in bucket.objects.filter(Prefix="out/data/"))


def wait_for_parts(command, bucket, wanted):
    while command.is_alive and count_parts(bucket) < wanted:
        time.sleep(0.02)


def read_bucket(bucket) -> pa.Table:
    bodies = [item.get()["Body"].read() for item in bucket.objects.filter(Prefix="out/data/")]
    return pa.concat_tables([pq.read_table(io.BytesIO(body)) for body in bodies]).sort_by("_row")


def require_rows_of_a_local_run(bucket, tmp_path):
    local = Job(tmp_path / "local", (*JOB, "backend.workers=0"), LIGHT)
    assert local.start().wait() == 0
    assert read_bucket(bucket).equals(read_rows(local.output))
    assert list(tmp_path.glob("batchneuron-*/*.inprogress")) == []


@pytest.mark.case(3, 4)
def test_killed_workers_and_a_killed_command_cost_nothing_but_time(bucket, tmp_path):
    command = start(tmp_path / "job", "backend.workers=2")
    wait_for_parts(command, bucket, 4)
    command.list_workers()[0].kill()
    wait_for_parts(command, bucket, 10)
    os.kill(command.process.pid, signal.SIGKILL)
    command.wait()
    command.require_alone()
    before = {item.key: item.last_modified for item in bucket.objects.filter(Prefix="out/data/")}
    assert 10 <= len(before) < PARTS

    again = start(tmp_path / "job", "backend.workers=2")

    assert again.wait() == 0, again.stderr
    assert count_parts(bucket) == PARTS
    after = {item.key: item.last_modified for item in bucket.objects.filter(Prefix="out/data/")}
    assert {key: after[key] for key in before} == before
    require_rows_of_a_local_run(bucket, tmp_path)


@pytest.mark.case(25)
def test_two_runners_of_one_job_share_a_bucket_and_both_end_well(bucket, tmp_path):
    both = [start(tmp_path / name, "backend.workers=1") for name in ("one", "two")]

    assert [command.wait() for command in both] == [0, 0], [command.stderr for command in both]
    assert count_parts(bucket) == PARTS
    require_rows_of_a_local_run(bucket, tmp_path)
