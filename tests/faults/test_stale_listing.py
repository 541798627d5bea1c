"""A listing that hides a part, for a moment or because a page was cut: the part is found to be there."""

import boto3
import pytest
from botocore.awsrequest import AWSResponse

from batchneuron.errors import Incomplete
from batchneuron.ledger.verify import verify_folder
from batchneuron.run import run_job
from batchneuron.stores.local import LocalStore
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.s3_client import open_client
from batchneuron.stores.s3_requests import S3Requests
from batchneuron.stores.s3_scratch import S3Scratch
from batchneuron.stores.store import Entry
from batchneuron.watch import Watch
from tests.faults.invariants import digest_parts
from tests.stores import s3_faults


def stop_after(parts):
    done = []
    return Watch(on_event=done.append, is_stopped=lambda: len(done) >= parts)


@pytest.mark.case(24)
def test_a_part_that_a_stale_listing_hides_costs_a_lost_race(make_spec, tmp_path, monkeypatch):
    with pytest.raises(Incomplete):
        run_job(make_spec(), watch=stop_after(2))
    before, real, hidden = digest_parts(tmp_path / "out"), LocalStore.list, []

    def list_stale(store, folder):
        found = real(store, folder)
        if folder != "data" or len(hidden) == 2 or not found:
            return found  # a run lists before it begins, and once more before its first shard
        hidden.append(found[0])
        return found[1:]

    monkeypatch.setattr(LocalStore, "list", list_stale)
    summary = run_job(make_spec())

    assert len(hidden) == 2 and summary.done_twice == 1
    assert before.items() <= digest_parts(tmp_path / "out").items()
    assert verify_folder(str(tmp_path / "out")).is_whole


@pytest.mark.case(24)
def test_a_page_that_was_cut_on_its_way_is_asked_for_again(monkeypatch, tmp_path):
    with s3_faults.serve() as url:
        s3_faults.use_endpoint(monkeypatch, url)
        boto3.resource("s3").create_bucket(Bucket="labels")
        faults = s3_faults.Faults(open_client(attempts=1))
        requests = S3Requests("s3://labels/run", faults.open_client, rest=lambda _: None)
        store = S3Store(requests, "labels", "run", S3Scratch(requests.location))
        store.create_bytes("data/a", b"1")

        def cut(request):
            response = AWSResponse(request.url, 200, {}, None)
            response._content = b"<?xml version='1.0'?><ListBucketResult><Contents><Key>run/da"
            return response

        faults.put("ListObjectsV2", cut)
        with faults.between():
            assert store.list("data") == (Entry("a", 1),)
        assert faults.sent.count("ListObjectsV2") == 2
