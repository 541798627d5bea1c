"""Inputs in a bucket, on this machine."""

import boto3
import pytest

from batchneuron.errors import SourceChanged, SourceUnavailable
from batchneuron.sources import location
from tests.sources.reading import cut, open_path, read_all
from tests.stores import s3_faults


@pytest.fixture(scope="module")
def endpoint():
    with s3_faults.serve() as url:
        yield url


@pytest.fixture
def bucket(endpoint, monkeypatch):
    s3_faults.use_endpoint(monkeypatch, endpoint)
    location._bucket_filesystem.cache_clear()
    yield boto3.resource("s3").create_bucket(Bucket="rows")
    location._bucket_filesystem.cache_clear()


def write(bucket, first):
    lines = [f'{{"id": {number}}}\n' for number in range(first, first + 1000)]
    bucket.put_object(Key="in/a.jsonl", Body="".join(lines).encode())


@pytest.mark.case(32)
@pytest.mark.parametrize("on_bad_file", ["fail", "skip"])
def test_an_object_that_is_written_over_while_it_is_open_is_refused(bucket, on_bad_file):
    write(bucket, 1000)
    source = open_path("s3://rows/in/*.jsonl", on_bad_file=on_bad_file)
    inventory = source.inventory()
    reader = source.open_reader(inventory.schema)
    assert reader.read(cut(inventory, 0, 3)).table["id"].to_pylist() == [1000, 1001, 1002]

    write(bucket, 5000)  # of the same size

    with pytest.raises(SourceChanged, match=r"s3://rows/in/a\.jsonl: the file changed"):
        reader.read(cut(inventory, 3, 6))
    assert read_all(open_path("s3://rows/in/*.jsonl")).table["id"].to_pylist()[3] == 5003


def test_a_run_folder_below_the_input_is_left_out_unless_it_is_named(bucket):
    for key, first in (("in/a.jsonl", 1), ("in/out/data/part.jsonl", 2), ("in/out/.batchneuron/run.json", 3)):
        bucket.put_object(Key=key, Body=f'{{"id": {first}}}\n'.encode())

    for path, found in (("in", 1), ("in/", 1), ("in/**", 1), ("in/out", 2), ("in/out/data/*.jsonl", 2)):
        assert read_all(open_path(f"s3://rows/{path}")).table["id"].to_pylist() == [found]


def test_a_bucket_that_gives_no_answer_is_no_missing_file(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    location._bucket_filesystem.cache_clear()
    with pytest.raises(SourceUnavailable, match=r"s3://rows/in/a\.jsonl: cannot be read now: "):
        open_path("s3://rows/in/a.jsonl").inventory()
