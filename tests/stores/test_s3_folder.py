"""verify, gc and --overwrite over a bucket: the same answers as over a folder, with a bucket's commands."""

import boto3
import pytest

from batchneuron.errors import OutputConflict
from batchneuron.ledger.replay import Wish, replay_rows
from batchneuron.ledger.sweep import sweep_folder
from batchneuron.ledger.verify import verify_folder
from batchneuron.run import run_job
from batchneuron.stores import s3_scratch
from batchneuron.stores.s3 import S3Store
from tests.stores import s3_faults
from tests.stores.s3_faults import use_endpoint

OUT = "s3://labels/run"


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    with s3_faults.serve() as url:
        use_endpoint(monkeypatch, url)
        monkeypatch.setattr(s3_scratch.tempfile, "tempdir", str(tmp_path))
        yield boto3.resource("s3").create_bucket(Bucket="labels")


@pytest.mark.case(28, 31)
def test_the_life_of_a_folder_in_a_bucket(bucket, make_spec):
    run_job(make_spec(f"output.path={OUT}"))
    found = verify_folder(OUT)
    assert (found.is_whole, found.rows_found) == (True, 42)
    assert replay_rows(OUT, Wish(rows=1)).is_same
    assert [each.key for each in bucket.objects.filter(Prefix="run/.batchneuron/leases/")] == []

    part = next(iter(bucket.objects.filter(Prefix="run/data/")))
    part.Object().put(Body=b"PAR1")
    found = verify_folder(OUT)
    assert found.exit_code == 73
    assert found.flaws[0].repair == f"aws s3 rm s3://labels/{part.key}, and run the job again"
    with pytest.raises(OutputConflict, match=f"aws s3 rm s3://labels/{part.key}"):
        run_job(make_spec(f"output.path={OUT}"))
    part.delete()
    run_job(make_spec(f"output.path={OUT}"))
    assert verify_folder(OUT).is_whole

    summary = run_job(make_spec(f"output.path={OUT}", "options.top_k=2"), overwrite=True)
    assert len(list(bucket.objects.filter(Prefix="run/data/"))) == summary.shards
    bucket.put_object(Key="run/data/part-00001_of_00005-00000000.parquet", Body=b"left")
    assert {file.kind for file in sweep_folder(OUT).files} == {"part", "progress"}
    assert sweep_folder(OUT).files == ()
    assert verify_folder(OUT).is_whole


def test_a_part_that_nobody_reported_costs_one_request(bucket, make_spec, monkeypatch):
    run_job(make_spec(f"output.path={OUT}"))
    before = bucket.Object("run/.batchneuron/manifest.json").get()["Body"].read()
    bucket.objects.filter(Prefix="run/.batchneuron/progress/").delete()
    bucket.Object("run/.batchneuron/manifest.json").delete()
    asked, real = [], S3Store.read_tags
    monkeypatch.setattr(S3Store, "read_tags", lambda store, name: asked.append(name) or real(store, name))
    monkeypatch.setattr(S3Store, "read_footer", None)

    summary = run_job(make_spec(f"output.path={OUT}"))

    assert len(asked) == summary.shards
    assert bucket.Object("run/.batchneuron/manifest.json").get()["Body"].read() == before


def test_a_part_that_was_copied_without_its_metadata_is_read(bucket, make_spec):
    run_job(make_spec(f"output.path={OUT}"))
    before = bucket.Object("run/.batchneuron/manifest.json").get()["Body"].read()
    bucket.objects.filter(Prefix="run/.batchneuron/progress/").delete()
    bucket.Object("run/.batchneuron/manifest.json").delete()
    for part in bucket.objects.filter(Prefix="run/data/"):
        part.Object().put(Body=part.get()["Body"].read())

    run_job(make_spec(f"output.path={OUT}"))

    assert bucket.Object("run/.batchneuron/manifest.json").get()["Body"].read() == before
