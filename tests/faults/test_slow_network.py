"""A job to a bucket over connections that hang or crawl: what hangs is sent again, the others go on."""

import pytest

from tests.faults import slow_network
from tests.faults.invariants import read_truth, require_finished
from tests.faults.places import Bucket, open_bucket
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
