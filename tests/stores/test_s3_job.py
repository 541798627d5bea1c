"""Whole jobs from a bucket to a bucket: the rows of a local run, resumed, shared, refused, and read back."""

import hashlib
import io
import json

import boto3
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pyarrow import fs

from batchneuron import open_run, run
from batchneuron.cli import cli
from batchneuron.errors import (
    OutputConflict,
    OutputForbidden,
    OutputUnfit,
    OutputUnwritable,
    SourceChanged,
    SourceNotFound,
)
from batchneuron.ledger.found import find_run
from batchneuron.ledger.report import iter_rejected, read_preview, read_speed
from batchneuron.ledger.status import read_status
from batchneuron.run import run_job
from batchneuron.showing.render import render_summary
from batchneuron.sources.location import verify_unchanged
from batchneuron.sources.source import FileId
from batchneuron.stores import s3, s3_requests, s3_scratch
from batchneuron.stores.s3_client import open_client
from batchneuron.watch import Watch
from batchneuron.workers.rebuild import rebuild_error
from batchneuron.workers.worker import describe_failure
from tests.stores import s3_faults
from tests.stores.s3_faults import ignore_condition, use_endpoint

OUT = "s3://labels/nightly/run"


@pytest.fixture(scope="module")
def server():
    with s3_faults.serve() as url, pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(monkeypatch, url)
        yield url, boto3.resource("s3")


@pytest.fixture
def bucket(server, monkeypatch, tmp_path, rows_folder):
    """A bucket with the rows in `in/`."""
    use_endpoint(monkeypatch, server[0])
    monkeypatch.setattr(s3_scratch.tempfile, "tempdir", str(tmp_path))
    bucket = server[1].create_bucket(Bucket="labels")
    for path in rows_folder.iterdir():
        bucket.upload_file(str(path), f"in/{path.name}")
    yield bucket
    bucket.objects.delete()
    bucket.delete()


@pytest.fixture
def make_s3_spec(make_spec):
    def make(*overrides):
        return make_spec("input.path=s3://labels/in", f"output.path={OUT}", *overrides)

    return make


def list_keys(bucket, prefix="nightly/run/data/"):
    return sorted(item.key for item in bucket.objects.filter(Prefix=prefix))


def read_parts(bucket):
    """All rows, in row order, read with boto3 alone."""
    bodies = [bucket.Object(key).get()["Body"].read() for key in list_keys(bucket)]
    return pa.concat_tables([pq.read_table(io.BytesIO(body)) for body in bodies]).sort_by("_row")


def stop_after(parts):
    """A watch that stops the run once so many parts are done."""
    events = []
    return Watch(on_event=events.append, is_stopped=lambda: len(events) >= parts)


def test_a_job_from_a_bucket_to_a_bucket_gives_the_rows_of_a_local_one(
    bucket, make_spec, make_s3_spec, tmp_path
):
    run_job(make_spec())
    summary = run_job(make_s3_spec())

    rows = read_parts(bucket)
    assert rows.equals(pq.read_table(tmp_path / "out/data").sort_by("_row"))
    assert (summary.output, summary.rows, summary.shards) == (OUT, 42, len(list_keys(bucket)))
    manifest = json.loads(bucket.Object("nightly/run/.batchneuron/manifest.json").get()["Body"].read())
    assert [part["name"] for part in manifest["parts"]] == [
        key.rpartition("/")[2] for key in list_keys(bucket)
    ]
    metadata = bucket.Object(list_keys(bucket)[0]).metadata
    assert metadata["sha256"] == manifest["parts"][0]["sha256"]
    assert set(metadata) == {"attempt", "fingerprint", "rejected", "rows", "sha256"}
    assert not [key for key in list_keys(bucket, "") if "probe" in key]
    assert not [path for path in tmp_path.glob("batchneuron-*/**/*") if path.is_file()]


def test_what_was_written_is_read_by_others(bucket, make_s3_spec, server):
    run_job(make_s3_spec())

    assert fs.FileSystem.from_uri(OUT)[0] is not None
    assert pq.read_table(f"{OUT}/data").num_rows == 42
    options = {"aws_endpoint_url": server[0], "aws_allow_http": "true", "aws_region": "us-east-1"}
    assert polars.read_parquet(f"{OUT}/data/*.parquet", storage_options=options).height == 42


def test_a_run_that_was_stopped_does_only_what_is_missing(bucket, make_s3_spec, monkeypatch):
    with pytest.raises(run.Incomplete):
        run_job(make_s3_spec(), watch=stop_after(2))
    first = list_keys(bucket)
    assert 0 < len(first) < 5 and not read_status(OUT).is_finished

    summary = run_job(make_s3_spec())

    assert len(summary.done_now) == summary.shards - len(first)
    assert read_parts(bucket)["_row"].to_pylist() == list(range(42))
    # Finished: nothing is probed, nothing is written.
    monkeypatch.setattr(open_run, "_verify", None)
    assert run_job(make_s3_spec()).done_now == ()


def test_progress_that_cannot_be_told_stops_nobody(bucket, make_s3_spec, monkeypatch):
    replace = s3.S3Store.replace_bytes

    def refuse(store, name, content):
        if "progress" in name:
            raise OutputUnwritable("no answer")
        replace(store, name, content)

    monkeypatch.setattr(s3.S3Store, "replace_bytes", refuse)

    assert run_job(make_s3_spec()).rows == 42
    assert read_status(OUT).is_finished


def test_a_part_nobody_reported_is_in_the_manifest_all_the_same(bucket, make_s3_spec):
    run_job(make_s3_spec())
    manifest = bucket.Object("nightly/run/.batchneuron/manifest.json")
    content = manifest.get()["Body"].read()
    manifest.delete()
    bucket.objects.filter(Prefix="nightly/run/.batchneuron/progress/").delete()

    run_job(make_s3_spec())

    assert manifest.get()["Body"].read() == content


@pytest.mark.case(16)
def test_a_part_that_somebody_else_wrote_first_is_adopted(bucket, make_s3_spec):
    """Two runners of one job: while this one computes, the other has done it all."""
    done = []

    def finish_all(opened):
        if not done:
            done.append(True)
            run_job(make_s3_spec())

    summary = run_job(make_s3_spec(), watch=Watch(on_open=finish_all))

    assert summary.rows == 42 and not any(part.created for part in summary.done_now)
    assert read_parts(bucket)["_row"].to_pylist() == list(range(42))


@pytest.mark.case(17)
def test_a_foreign_object_at_a_parts_name_is_left_alone(bucket, make_s3_spec):
    run_job(make_s3_spec())
    keys = list_keys(bucket)
    body = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), body)

    def put_foreign(opened):
        bucket.Object(keys[1]).put(Body=body.getvalue())

    bucket.Object(keys[1]).delete()
    with pytest.raises(OutputConflict, match="not of this run"):
        run_job(make_s3_spec(), watch=Watch(on_open=put_foreign))
    assert bucket.Object(keys[1]).get()["Body"].read() == body.getvalue()


@pytest.mark.case(26)
def test_another_job_is_refused_and_told_what_differs(bucket, make_s3_spec):
    run_job(make_s3_spec())

    with pytest.raises(OutputConflict, match=r"options.top_k: 2 here"):
        run_job(make_s3_spec("options.top_k=2"))


@pytest.mark.case(32)
def test_an_input_that_changed_is_no_mixture(bucket, make_s3_spec, rows_folder):
    with pytest.raises(run.Incomplete):
        run_job(make_s3_spec(), watch=stop_after(2))
    name = sorted(rows_folder.iterdir())[0].name
    table = pq.read_table(rows_folder / name)
    body = io.BytesIO()
    pq.write_table(table.slice(1), body)
    bucket.Object(f"in/{name}").put(Body=body.getvalue())

    with pytest.raises(SourceChanged, match=f"s3://labels/in/{name} was .* bytes"):
        run_job(make_s3_spec())


@pytest.mark.case(32)
def test_an_input_with_the_same_size_is_told_by_its_etag(bucket, make_s3_spec, rows_folder):
    with pytest.raises(run.Incomplete):
        run_job(make_s3_spec(), watch=stop_after(1))
    name = sorted(rows_folder.iterdir())[0].name
    found = bucket.Object(f"in/{name}")
    content, before = found.get()["Body"].read(), found.e_tag.strip('"')
    found.put(Body=content)
    with pytest.raises(run.Incomplete):  # newer, and the same: it goes on
        run_job(make_s3_spec(), watch=stop_after(1))
    found.put(Body=b"\0" + content[1:])

    now = hashlib.md5(b"\0" + content[1:]).hexdigest()
    with pytest.raises(SourceChanged) as caught:
        verify_unchanged(FileId(f"s3://labels/in/{name}", len(content), before))
    assert f"(version {before})" in str(caught.value) and f"(version {now})" in str(caught.value)


@pytest.mark.case(18)
def test_answers_that_ask_to_slow_down_are_counted(bucket, make_s3_spec, monkeypatch):
    client, faults = open_client(attempts=2), [s3_faults.answer(503, "SlowDown")] * 3
    client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: faults.pop()(request) if "/data/" in request.url and faults else None,
    )
    monkeypatch.setattr(s3_requests, "open_client", lambda _: client)

    summary = run_job(make_s3_spec())

    assert (summary.throttled, faults) == (3, [])
    assert read_speed(find_run(OUT)).throttled == 3
    assert "slowed down by the store 3 times" in render_summary(summary)
    assert "slowed down 3 times" in CliRunner().invoke(cli, ["report", OUT]).output


@pytest.mark.case(23)
def test_a_store_that_overwrites_is_refused_before_anything_is_compiled(bucket, make_s3_spec, monkeypatch):
    client = open_client(attempts=3)
    client.meta.events.register("before-send.s3.PutObject", lambda request, **_: ignore_condition(request))
    monkeypatch.setattr(s3_requests, "open_client", lambda _: client)
    monkeypatch.setattr(open_run, "_build_new", None)

    with pytest.raises(OutputUnfit, match="8 of 8"):
        run_job(make_s3_spec())


@pytest.mark.case(21)
def test_a_part_that_was_refused_is_published_by_the_next_run(bucket, make_s3_spec, monkeypatch, tmp_path):
    put = s3.S3Store._put_new

    def refuse_second(store, name, *rest):
        if name.startswith("data/") and store.list("data"):
            raise OutputForbidden("refused", OUT, "run the same command again")
        return put(store, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(s3.S3Store, "_put_new", refuse_second)
        with pytest.raises(OutputForbidden, match="refused"):
            run_job(make_s3_spec())
    assert len(list_keys(bucket)) == 1

    summary = run_job(make_s3_spec())

    assert len(summary.done_now) == summary.shards - 2
    assert read_parts(bucket)["_row"].to_pylist() == list(range(42))
    assert not [path for path in tmp_path.glob("batchneuron-*/**/*") if path.is_file()]


@pytest.mark.case(21)
def test_a_worker_that_is_refused_ends_the_command_with_77():
    refusal = OutputForbidden("S3 refuses these credentials", OUT, "set AWS_PROFILE")

    error = rebuild_error(describe_failure(refusal), "shard 3")

    assert (type(error), error.exit_code) == (OutputForbidden, 77)
    assert not describe_failure(refusal).retryable
    assert "set AWS_PROFILE" in str(error)


@pytest.mark.case(22)
def test_a_bucket_that_is_not_there(bucket, make_s3_spec):
    with pytest.raises(OutputUnfit, match="no such bucket"):
        run_job(make_s3_spec("output.path=s3://nowhere/run"))
    with pytest.raises(SourceNotFound):
        run_job(make_s3_spec("input.path=s3://labels/nothing"))


def test_the_commands_that_look_into_a_run(bucket, make_s3_spec):
    run_job(make_s3_spec())

    status = read_status(OUT)
    assert (status.output, status.rows_done, status.is_finished, status.strays) == (OUT, 42, True, ())
    assert read_speed(find_run(OUT)).rows == 42
    assert read_preview(find_run(OUT), 3).num_rows == 3
    assert [row.row for row in iter_rejected(find_run(OUT))] == [
        row["_row"] for row in read_parts(bucket).to_pylist() if row["_error"] is not None
    ]
    for command in (["status", OUT], ["errors", OUT], ["report", OUT]):
        shown = CliRunner().invoke(cli, command)
        assert shown.exit_code == 0, shown.output
    assert OUT in CliRunner().invoke(cli, ["status", OUT]).output
