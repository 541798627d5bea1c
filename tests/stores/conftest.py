"""A bucket on this machine, for the tests of the S3 store."""

import boto3
import pytest

from batchneuron.stores import s3_scratch
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.s3_client import open_client
from batchneuron.stores.s3_requests import S3Requests
from batchneuron.stores.s3_scratch import S3Scratch
from tests.stores import s3_faults
from tests.stores.s3_faults import Faults, use_endpoint
from tests.stores.s3_rig import Rig


@pytest.fixture(scope="module")
def server():
    """An S3 on this machine: its address, a client of the package's, and boto3's own way to look into it."""
    with s3_faults.serve() as url, pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(monkeypatch, url)
        yield url, open_client(attempts=1), boto3.resource("s3")


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """An empty bucket, found the usual way, and a temporary folder of its own."""
    use_endpoint(monkeypatch, server[0])
    monkeypatch.setattr(s3_scratch.tempfile, "tempdir", str(tmp_path))
    bucket = server[2].create_bucket(Bucket="labels")
    yield bucket
    bucket.object_versions.delete()
    bucket.delete()


@pytest.fixture
def rig(server, bucket):
    faults, rests = Faults(server[1]), []
    requests = S3Requests("s3://labels/run", faults.open_client, rest=rests.append)
    store = S3Store(requests, "labels", "run", S3Scratch(requests.location))
    store.prepare()
    with faults.between():
        yield Rig(store, faults, rests)
