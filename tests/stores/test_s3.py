"""A run folder in a bucket: whole objects under their names, the first stays, whatever the network does."""

import hashlib
import threading
from dataclasses import dataclass

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.awsrequest import AWSResponse

from batchneuron.errors import BackendError, OutputConflict, OutputForbidden, OutputUnfit, OutputUnwritable
from batchneuron.stores import open_store, s3, s3_scratch
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.s3_client import open_client
from batchneuron.stores.s3_requests import Patience, S3Requests
from batchneuron.stores.s3_scratch import S3Scratch
from batchneuron.stores.store import Draft, Entry
from tests.stores import s3_faults
from tests.stores.s3_faults import Faults, answer, corrupt, hang, lose_answer, lose_request, use_endpoint

PART = "data/part-00000"


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


@dataclass
class Rig:
    """A store whose requests can be tampered with, and how long it rested."""

    store: S3Store
    faults: Faults
    rests: list[float]

    def draft(self, content=b"content", **tags):
        path = self.store.scratch_file(f"{len(list(self.store.scratch.folder.iterdir()))}")
        path.write_bytes(content)
        return Draft(path, hashlib.sha256(content).hexdigest(), tags)

    def create(self, content=b"content", **tags):
        return self.store.create(PART, self.draft(content, **tags))


@pytest.fixture
def rig(server, bucket):
    faults, rests = Faults(server[1]), []
    requests = S3Requests("s3://labels/run", faults.open_client, rest=rests.append)
    store = S3Store(requests, "labels", "run", S3Scratch(requests.location))
    store.prepare()
    with faults.between():
        yield Rig(store, faults, rests)


def put_foreign(bucket, content=b"foreign", **metadata):
    bucket.Object(f"run/{PART}").put(Body=content, Metadata=metadata)


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_part_is_one_conditional_put_that_carries_its_digest(rig, bucket):
    assert rig.create(b"first", attempt="a", rows="3")

    assert rig.faults.sent == ["PutObject"]
    found = bucket.Object(f"run/{PART}").get()
    assert found["Body"].read() == b"first"
    assert found["Metadata"] == {
        "attempt": "a",
        "rows": "3",
        "sha256": hashlib.sha256(b"first").hexdigest(),
    }
    assert not rig.create(b"second", attempt="b")
    assert rig.store.read(PART) == b"first"
    assert names_in(rig.store.scratch.folder) == []


def test_bytes_are_created_once_and_replaced_at_will(rig):
    assert rig.store.create_bytes(".batchneuron/run.json", b"first")
    assert not rig.store.create_bytes(".batchneuron/run.json", b"second")
    assert rig.store.read(".batchneuron/run.json") == b"first"

    rig.store.replace_bytes(".batchneuron/progress/x.json", b"old")
    rig.store.replace_bytes(".batchneuron/progress/x.json", b"new")
    assert rig.store.read(".batchneuron/progress/x.json") == b"new"
    assert rig.store.read("nothing") is None


def test_what_is_replaced_is_what_was_there(rig, bucket):
    rig.store.replace_bytes("x", b"old")

    def write_between(request):
        bucket.Object("run/x").put(Body=b"another's")

    rig.faults.put("PutObject", write_between)
    rig.store.replace_bytes("x", b"new")

    assert rig.store.read("x") == b"new"
    assert rig.faults.sent.count("PutObject") == 3  # the second met a condition that did not hold


def test_who_expects_something_else_replaces_nothing(rig, bucket):
    rig.store.create_bytes("x", b"old")
    assert not rig.store.replace_if("x", b"new", b"other")
    assert not rig.store.replace_if("none", b"new", b"old")
    assert rig.store.replace_if("x", b"new", b"old")

    rig.faults.put("PutObject", lose_answer)
    assert rig.store.replace_if("x", b"newer", b"new")
    rig.faults.put("PutObject", lambda request: bucket.Object("run/x").put(Body=b"another's") and None)
    assert not rig.store.replace_if("x", b"newest", b"newer")

    assert rig.store.read("x") == b"another's"


def test_what_is_deleted_is_gone_and_need_not_have_been_there(rig):
    rig.store.create_bytes("x", b"1")

    rig.store.delete("x")
    rig.store.delete("x")

    assert rig.store.read("x") is None


def test_of_eight_racing_writers_one_wins(rig):
    drafts = [rig.draft(bytes([65 + i]) * 4096, attempt=str(i)) for i in range(8)]
    start, won = threading.Barrier(8), []

    def race(draft):
        start.wait()
        if rig.store.create(PART, draft):
            won.append(draft)

    threads = [threading.Thread(target=race, args=(draft,)) for draft in drafts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert hashlib.sha256(rig.store.read(PART)).hexdigest() == won[0].sha256


def test_listing_goes_through_all_pages_and_no_further_down(rig, monkeypatch):
    names = [f"part-{number}" for number in range(5)]
    for name in [*names, "deeper/one"]:
        rig.store.create_bytes(f"data/{name}", b"12")
    real, asked = s3._list_page, []

    def list_two(arguments, client):
        asked.append(arguments)
        return real({**arguments, "MaxKeys": 2}, client)

    monkeypatch.setattr(s3, "_list_page", list_two)

    assert rig.store.list("data") == tuple(Entry(name, 2) for name in names)
    assert len(asked) >= 3
    assert rig.store.list("nowhere") == ()


def write_table(rig, name, rows=20_000):
    draft = rig.draft()
    table = pa.table({"a": range(rows)}).replace_schema_metadata({"k": "v"})
    pq.write_table(table, draft.path, row_group_size=1000, use_dictionary=False)
    draft = Draft(draft.path, hashlib.sha256(draft.path.read_bytes()).hexdigest())
    rig.store.create(name, draft)
    return draft.sha256


def test_of_a_part_only_the_footer_is_fetched(rig, monkeypatch):
    digest = write_table(rig, PART)
    size, real, fetched = rig.store.list("data")[0].size_bytes, s3.S3Object._fetch, []

    def fetch(self, client, wanted):
        fetched.append(len(content := real(self, client, wanted)))
        return content

    monkeypatch.setattr(s3.S3Object, "_fetch", fetch)
    footer = rig.store.read_footer(PART)

    assert (footer["k"], footer["num_rows"]) == ("v", "20000")
    assert sum(fetched) <= 64 << 10 < size
    with pq.ParquetFile(rig.store.open_table(PART)) as file:
        assert file.read()["a"].to_pylist() == list(range(20_000))
    assert rig.store.read_sha256(PART) == digest


def test_a_digest_that_s3_has_verified_is_believed(rig):
    rig.create(b"content")
    digest = "ab" * 32

    def verified(request):
        response = AWSResponse(
            request.url, 200, {"x-amz-checksum-sha256": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="}, None
        )
        response._content = b""
        return response

    rig.faults.put("HeadObject", verified)

    assert rig.store.read_sha256(PART) == digest
    assert "GetObject" not in rig.faults.sent


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_an_object_that_is_no_parquet_has_no_footer(rig, content):
    rig.store.create_bytes(PART, content)

    with pytest.raises(OutputConflict, match="not a readable Parquet file"):
        rig.store.read_footer(PART)


def test_a_missing_object_has_no_footer_and_no_digest(rig):
    for read in (rig.store.read_footer, rig.store.read_sha256, rig.store.open_table):
        with pytest.raises(OutputConflict, match="no such object"):
            read(PART)


def test_an_object_that_changes_while_it_is_read_is_no_mixture(rig, bucket):
    write_table(rig, PART)
    table = rig.store.open_table(PART)
    put_foreign(bucket, bytes(200_000))

    with pytest.raises(OSError, match="changed while it was read"):
        pq.read_table(table)


# What the network and S3 do


def test_a_lost_answer_is_told_from_a_lost_race(rig, bucket):
    rig.faults.put("PutObject", lose_answer)

    assert rig.create(b"mine", attempt="a")

    assert rig.faults.sent == ["PutObject", "PutObject", "HeadObject"]
    assert rig.store.read(PART) == b"mine"


def test_a_lost_answer_is_understood_with_botocores_own_retries_too(rig, bucket):
    client = open_client(attempts=2)
    faults = [lose_answer]
    client.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: faults.pop()(request) if faults else None
    )
    store = S3Store(S3Requests("s3://labels/run", lambda: client), "labels", "run", rig.store.scratch)

    assert store.create(PART, rig.draft(attempt="a"))
    assert not faults


@pytest.mark.parametrize(
    "fault",
    [
        lose_request,
        hang,
        corrupt,
        answer(409, "ConditionalRequestConflict"),
        answer(503, "SlowDown"),
        answer(500, "InternalError"),
        answer(429, "TooManyRequests"),
        answer(400, "RequestTimeout"),
    ],
    ids=["reset", "hang", "bit flip", "409", "503", "500", "429", "400 timeout"],
)
def test_what_may_pass_is_sent_again_as_the_same_attempt(rig, bucket, fault):
    rig.faults.put("PutObject", *[fault] * 5)

    assert rig.create(b"content", attempt="a")

    assert rig.faults.sent == ["PutObject"] * 6
    assert len(rig.rests) == 5 and max(rig.rests) <= 0.2 * 2**4
    assert [item.key for item in bucket.objects.all()] == [f"run/{PART}"]
    assert bucket.Object(f"run/{PART}").metadata["attempt"] == "a"


def test_what_is_advisory_is_not_waited_for(rig, monkeypatch):
    monkeypatch.setattr(s3, "_ADVISORY_S", 0)
    rig.store.list("data")
    rig.faults.put_always("PutObject", answer(503, "SlowDown"))

    with pytest.raises(OutputUnwritable, match="no answer from S3 in 0 s"):
        rig.store.replace_bytes(".batchneuron/progress/x.json", b"1")


def test_another_attempt_is_not_ours_and_stays(rig, bucket):
    put_foreign(bucket, attempt="b")

    assert not rig.create(b"mine", attempt="a")
    assert rig.store.read(PART) == b"foreign"


def test_a_name_that_is_taken_and_free_again_is_taken(rig, bucket):
    put_foreign(bucket)
    rig.faults.put("HeadObject", lambda request: bucket.Object(f"run/{PART}").delete() and None)

    assert rig.create(b"mine", attempt="a")
    assert rig.store.read(PART) == b"mine"


def test_patience_ends_and_the_part_is_kept_for_the_next_run(rig, bucket):
    rig.store.requests.patience = Patience(0, 0)
    rig.faults.put_always("PutObject", answer(503, "SlowDown"))

    with pytest.raises(OutputUnwritable, match=r"no answer from S3 in 0 s: .*SlowDown") as caught:
        rig.create(b"mine", attempt="a")

    assert caught.value.exit_code == 75
    assert len(names_in(rig.store.scratch.folder)) == 1
    rig.faults.plan.clear()
    rig.store.prepare()
    assert rig.store.read(PART) is None
    rig.store.prepare("part-00000")
    assert rig.store.read(PART) == b"mine"
    assert names_in(rig.store.scratch.folder) == []


def test_a_kept_part_never_takes_the_place_of_another(rig, bucket):
    kept = rig.store.scratch.keep(PART, rig.draft(b"mine"))
    damaged = rig.store.scratch.keep("data/other", rig.draft(b"damaged"))
    damaged.write_bytes(b"half")
    put_foreign(bucket)
    other = S3Scratch("s3://labels/elsewhere")

    assert list(other.take_kept("data")) == []
    rig.store.prepare("data")

    assert not kept.exists() and not damaged.exists()
    assert rig.store.read(PART) == b"foreign"
    assert rig.store.read("data/other") is None


def test_a_kept_part_of_a_run_that_was_overwritten_is_dropped(rig):
    rig.store.scratch.keep("data/part-0-aaaaaaaa.parquet", rig.draft())

    rig.store.prepare("bbbbbbbb")

    assert rig.store.list("data") == ()
    assert names_in(rig.store.scratch.folder) == []


@pytest.mark.parametrize(
    "refusal",
    [answer(403, "AccessDenied"), answer(400, "ExpiredToken"), answer(403, "RequestTimeTooSkewed")],
    ids=["denied", "expired", "skewed"],
)
def test_credentials_are_looked_for_once_more(rig, refusal):
    rig.faults.put("PutObject", refusal)

    assert rig.create(b"content", attempt="a")
    assert rig.faults.opened == 2

    rig.faults.put_always("PutObject", refusal)
    with pytest.raises(OutputForbidden, match="refuses these credentials") as caught:
        rig.store.create("data/other", rig.draft(b"kept", attempt="b"))

    assert caught.value.exit_code == 77
    (kept,) = names_in(rig.store.scratch.folder)
    assert kept in caught.value.hint
    assert rig.faults.opened == 3 and not rig.rests


def test_no_credentials_at_all(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(OutputForbidden, match="credentials"):
        open_store("s3://labels/run").read("x")


def test_a_profile_that_is_not_there(bucket, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(BackendError, match="nobody"):
        open_store("s3://labels/run")


def test_a_bucket_that_is_not_there(bucket):
    store = open_store("s3://nowhere/run")

    for call in (lambda: store.read("x"), lambda: store.list("data"), lambda: store.create_bytes("x", b"")):
        with pytest.raises(OutputUnfit, match="no such bucket") as caught:
            call()
        assert caught.value.exit_code == 78


def test_a_bucket_in_another_region_is_followed_or_named(rig):
    elsewhere = {"x-amz-bucket-region": "eu-central-1"}
    rig.faults.put("PutObject", answer(301, "PermanentRedirect", elsewhere))
    assert rig.create(attempt="a")

    rig.faults.put_always("GetObject", answer(301, "PermanentRedirect", elsewhere))
    with pytest.raises(OutputUnfit, match="in another region"):
        rig.store.read(PART)


def test_a_name_that_was_deleted_in_a_versioned_bucket_is_free(rig, bucket):
    bucket.Versioning().enable()
    rig.create(b"first", attempt="a")
    bucket.Object(f"run/{PART}").delete()

    assert rig.create(b"second", attempt="b")
    assert rig.store.read(PART) == b"second"


@pytest.mark.parametrize("fault", [lose_answer, answer(503, "SlowDown")])
def test_a_page_of_a_listing_that_is_lost_is_asked_for_again(rig, fault):
    rig.store.create_bytes("data/a", b"1")
    rig.faults.put("ListObjectsV2", fault)

    assert rig.store.list("data") == (Entry("a", 1),)


def test_an_address_where_nobody_answers(bucket, monkeypatch):
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    requests = S3Requests("s3://labels/run", patience=Patience(0, 600))

    with pytest.raises(OutputUnwritable, match="no answer from S3"):
        S3Store(requests, "labels", "run", S3Scratch(requests.location)).read("x")


def test_a_part_that_is_too_large_says_what_to_set(rig, monkeypatch):
    monkeypatch.setattr(s3, "LARGEST_BYTES", 6)

    with pytest.raises(OutputUnfit) as caught:
        rig.create(b"content")

    assert "output.shard_rows" in caught.value.hint
    assert not rig.faults.sent and names_in(rig.store.scratch.folder) == []


# Before anything is computed


def test_a_store_that_creates_is_taken_and_nothing_stays_of_the_race(rig, bucket):
    rig.store.verify(0)

    assert rig.faults.sent.count("PutObject") == 8
    assert list(bucket.objects.all()) == []


def test_a_winner_whose_answer_was_lost_is_a_winner(rig):
    rig.faults.put("PutObject", *[lose_answer] * 8)

    rig.store.verify(0)


def test_a_role_that_may_not_delete_is_enough(rig):
    rig.faults.put_always("DeleteObject", answer(403, "AccessDenied"))

    rig.store.verify(0)


def test_a_store_that_ignores_the_condition_is_refused(rig):
    rig.faults.put_always("PutObject", s3_faults.ignore_condition)

    with pytest.raises(OutputUnfit, match="8 of 8 writers created the same name") as caught:
        rig.store.verify(0)
    assert caught.value.exit_code == 78


def test_a_store_that_looks_and_then_writes_is_refused(rig, bucket):
    all_have_looked = threading.Barrier(8)

    def look_then_write(request):
        key = request.url.rpartition("/labels/")[2]
        is_free = not list(bucket.objects.filter(Prefix=key))
        all_have_looked.wait()
        if is_free:
            s3_faults.ignore_condition(request)

    rig.faults.put("PutObject", *[look_then_write] * 8)

    with pytest.raises(OutputUnfit, match="of 8 writers created the same name"):
        rig.store.verify(0)


def test_a_store_that_knows_no_conditions_is_refused(rig):
    rig.faults.put_always("PutObject", answer(501, "NotImplemented"))

    with pytest.raises(OutputUnfit, match="NotImplemented"):
        rig.store.verify(0)


def test_a_disk_with_too_little_room_for_parts_is_refused(rig):
    with pytest.raises(OutputUnwritable, match="MiB are needed") as caught:
        rig.store.verify(1 << 60)

    assert "TMPDIR" in caught.value.hint
    assert not rig.faults.sent


def test_a_scratch_folder_of_somebody_else_is_refused(rig, tmp_path):
    folder = rig.store.scratch.folder
    folder.rename(tmp_path / "theirs")
    folder.symlink_to(tmp_path / "theirs")

    with pytest.raises(OutputUnwritable, match="not a folder of yours"):
        rig.store.prepare()


def test_without_boto3_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)

    with pytest.raises(BackendError) as caught:
        open_store("s3://labels/run")
    assert caught.value.hint == "pip install 'batchneuron[aws]'"


@pytest.mark.parametrize("location", ["s3://", "s3:///run", "s3://labels/a//b", "s3://labels/../b"])
def test_what_names_no_run_folder(bucket, location):
    with pytest.raises(OutputUnfit, match="not the name of a run folder"):
        open_store(location)


def test_a_whole_bucket_can_be_a_run_folder(bucket):
    store = open_store("s3://labels/")
    store.create_bytes("data/a", b"1")

    assert (store.location, store.list("data")) == ("s3://labels", (Entry("a", 1),))
