"""A job from or to a bucket over connections that hang, crawl or break: what got no answer is sent again."""

import json
import time

import boto3
import pyarrow.parquet as pq
import pytest

from tests.faults import slow_network
from tests.faults.harness import GLOSSES
from tests.faults.invariants import read_truth, require_finished
from tests.faults.places import BUCKET, Bucket, open_bucket
from tests.faults.processes import LIGHT, Job
from tests.stores import s3_faults

pytestmark = [pytest.mark.faults, pytest.mark.case(19)]

JOB = (
    "input.limit=1000",
    "output.shard_rows=50",
    "backend.workers=2",
    "shapes={batch_size: 16, sequence_length: [64, 128]}",
)


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """What the command finds, but for the address: that is the test's."""
    with s3_faults.serve() as url:
        s3_faults.use_endpoint(monkeypatch, url)
        open_bucket()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "TMPDIR": str(tmp_path),
            "LIGHT_TIMEOUT": "2",
        }


def test_connections_that_hang_or_crawl_cost_time_and_nothing_else(environment, tmp_path, injected):
    place = Bucket(tmp_path)
    hangs, crawls = set(range(10, 40, 5)), set(range(11, 40, 5))  # the first nine race before the run
    with slow_network.between(environment["AWS_ENDPOINT_URL"], hangs, crawls) as (url, network):
        job = Job(
            tmp_path / "job",
            (*JOB, f"output.path={place.locate('out')}"),
            LIGHT,
            {**environment, "AWS_ENDPOINT_URL": url},
        )
        command = job.start()
        assert command.wait(200) == 0, command.stderr

    injected(network.met["hang"] + network.met["crawl"])
    assert network.met["hang"] >= 1 and network.met["crawl"] >= 1
    calm = Job(tmp_path / "calm", JOB, LIGHT)
    assert calm.start().wait() == 0
    require_finished(place.look("out"), read_truth(calm.output))
    place.require_tidy()


def test_an_input_that_gives_no_answer_for_a_while_costs_time_and_no_worker(environment, tmp_path, injected):
    """Longer than Arrow's own three attempts, over and over."""
    rows = pq.read_table(GLOSSES).slice(0, 1000).to_pylist()
    for number in range(40):
        lines = "".join(json.dumps(row) + "\n" for row in rows[25 * number : 25 * number + 25])
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"rows/{number:02}.jsonl", Body=lines.encode())
    source = (f"input.path=s3://{BUCKET}/rows", "output.shard_rows=25")
    with slow_network.between(environment["AWS_ENDPOINT_URL"], set(), set()) as (url, network):
        job = Job(tmp_path / "job", (*JOB, *source), LIGHT, {**environment, "AWS_ENDPOINT_URL": url})
        command = job.start()
        command.wait_for_parts(4, 60)
        network.is_down = True
        time.sleep(15)
        network.is_down = False
        assert command.wait(120) == 0, command.stderr

    assert "warning: core" not in command.stderr, command.stderr
    injected(network.met["down"])
    assert network.met["down"] >= 6
    calm = Job(tmp_path / "calm", (*JOB, "output.shard_rows=25"), LIGHT)
    assert calm.start().wait() == 0
    require_finished(job.output, read_truth(calm.output))
