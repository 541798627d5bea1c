"""Compare and swap, and removal, in both stores: of several that expect the same, one is told True."""

from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest

from batchneuron.stores.local import LocalStore
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.s3_client import open_client
from batchneuron.stores.s3_requests import S3Requests
from batchneuron.stores.s3_scratch import S3Scratch
from tests.stores import s3_faults
from tests.stores.s3_faults import Faults, lose_answer, use_endpoint

NAME = ".batchneuron/run.json"


@pytest.fixture(scope="module")
def client():
    with s3_faults.serve() as url, pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(monkeypatch, url)
        boto3.resource("s3").create_bucket(Bucket="swap")
        yield open_client(attempts=1)


@pytest.fixture
def faults(client):
    faults = Faults(client)
    with faults.between():
        yield faults


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        store = LocalStore(tmp_path)
        store.prepare()
    else:
        opened = request.getfixturevalue("faults").open_client
        requests = S3Requests("s3://swap/run", opened, rest=lambda _: None)
        store = S3Store(requests, "swap", tmp_path.name, S3Scratch("s3://swap/run"))
    return store


def test_it_is_replaced_only_if_it_is_what_was_expected(store):
    assert not store.replace_if(NAME, b"new", b"old")
    assert store.create_bytes(NAME, b"old")

    assert not store.replace_if(NAME, b"new", b"older")
    assert store.read(NAME) == b"old"
    assert store.replace_if(NAME, b"new", b"old")
    assert store.read(NAME) == b"new"


def test_of_eight_at_once_one_wins(store):
    store.create_bytes(NAME, b"old")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.replace_if(NAME, b"%d" % number, b"old"), range(8)))

    assert won.count(True) == 1
    assert store.read(NAME) == b"%d" % won.index(True)


def test_what_is_removed_is_gone_and_can_be_removed_again(store):
    store.create_bytes(NAME, b"old")
    for _ in range(2):
        store.delete(NAME)
        assert store.read(NAME) is None


@pytest.mark.case(13)
def test_a_swap_whose_answer_was_lost_is_known_to_have_happened(faults, tmp_path):
    requests = S3Requests("s3://swap/run", faults.open_client, rest=lambda _: None)
    store = S3Store(requests, "swap", tmp_path.name, S3Scratch("s3://swap/run"))
    store.create_bytes(NAME, b"old")
    faults.put("PutObject", lose_answer)

    assert store.replace_if(NAME, b"new", b"old")
    assert store.read(NAME) == b"new"
