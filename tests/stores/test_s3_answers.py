"""What the network and S3 may answer, and what becomes of the request."""

import pytest
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError
from botocore.session import Session

from batchneuron.errors import BackendError, OutputForbidden, OutputUnfit, OutputUnwritable
from batchneuron.stores import open_store, s3
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.s3_client import CredentialsMissing, open_client
from batchneuron.stores.s3_requests import Patience, S3Requests
from batchneuron.stores.s3_scratch import S3Scratch
from batchneuron.stores.store import Entry
from tests.stores.s3_faults import answer, corrupt, hang, lose_answer, lose_request, use_endpoint
from tests.stores.s3_rig import PART, names_in, put_foreign


@pytest.mark.case(13)
def test_a_lost_answer_is_told_from_a_lost_race(rig, bucket):
    rig.faults.put("PutObject", lose_answer)

    assert rig.create(b"mine", attempt="a")

    assert rig.faults.sent == ["PutObject", "PutObject", "HeadObject"]
    assert rig.store.read(PART) == b"mine"


@pytest.mark.case(13)
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
        pytest.param(lose_request, id="reset", marks=pytest.mark.case(14)),
        pytest.param(hang, id="hang", marks=pytest.mark.case(19)),
        pytest.param(corrupt, id="bit flip", marks=pytest.mark.case(20)),
        pytest.param(answer(409, "ConditionalRequestConflict"), id="409", marks=pytest.mark.case(15)),
        pytest.param(answer(503, "SlowDown"), id="503", marks=pytest.mark.case(18)),
        pytest.param(answer(500, "InternalError"), id="500", marks=pytest.mark.case(18)),
        pytest.param(answer(429, "TooManyRequests"), id="429", marks=pytest.mark.case(18)),
        pytest.param(answer(400, "RequestTimeout"), id="400 timeout", marks=pytest.mark.case(19)),
    ],
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


@pytest.mark.case(16)
def test_another_attempt_is_not_ours_and_stays(rig, bucket):
    put_foreign(bucket, attempt="b")

    assert not rig.create(b"mine", attempt="a")
    assert rig.store.read(PART) == b"foreign"


def test_a_name_that_is_taken_and_free_again_is_taken(rig, bucket):
    put_foreign(bucket)
    rig.faults.put("HeadObject", lambda request: bucket.Object(f"run/{PART}").delete() and None)

    assert rig.create(b"mine", attempt="a")
    assert rig.store.read(PART) == b"mine"


@pytest.mark.case(18)
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


@pytest.mark.case(21)
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


@pytest.mark.case(21)
def test_no_credentials_at_all(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(OutputForbidden, match="no AWS credentials were found") as caught:
        S3Requests("s3://labels/run", patience=Patience(credentials_s=0))
    assert caught.value.exit_code == 77


BUSY = CredentialRetrievalError(provider="container-role", error_msg="timed out")


@pytest.mark.case(21)
def test_a_metadata_service_that_is_too_busy_is_asked_again(bucket, monkeypatch):
    """An instance's says nothing then, a container's raises."""
    told, find, rests = [None, BUSY, None], Session.get_credentials, []

    def look_up(session):
        if not told:
            return find(session)
        error = told.pop()
        if error is not None:
            raise error
        return None

    monkeypatch.setattr(Session, "get_credentials", look_up)
    requests = S3Requests("s3://labels/run", rest=rests.append)

    assert requests.send(lambda client: client.list_objects_v2(Bucket="labels"))["KeyCount"] == 0
    assert len(rests) == 3 and max(rests) <= 0.8


@pytest.mark.case(21)
def test_credentials_that_cannot_be_renewed_just_now_are_looked_for_for_a_while(server):
    busy, errors, rests = [], [BUSY], []

    def open_again():
        if busy:
            raise busy.pop()
        return server[1]

    def send(_client):
        if errors:
            raise errors.pop()
        return "answer"

    requests = S3Requests("s3://labels/run", open_again, rest=rests.append)
    busy += [CredentialsMissing("busy")] * 5

    assert requests.send(send) == "answer"
    assert len(rests) == 5 and max(rests) <= 0.2 * 2**4


def test_where_s3_has_not_answered_it_is_not_said_to_refuse(rig):
    def send(_client):
        raise NoCredentialsError

    with pytest.raises(OutputForbidden, match="no AWS credentials were found: Unable to locate"):
        rig.store.requests.send(send)


def test_a_profile_that_is_not_there(bucket, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(BackendError, match="nobody"):
        open_store("s3://labels/run")


@pytest.mark.case(22)
def test_a_bucket_that_is_not_there(bucket):
    store = open_store("s3://nowhere/run")

    for call in (lambda: store.read("x"), lambda: store.list("data"), lambda: store.create_bytes("x", b"")):
        with pytest.raises(OutputUnfit, match="no such bucket") as caught:
            call()
        assert caught.value.exit_code == 78


@pytest.mark.case(22)
def test_a_bucket_in_another_region_is_followed_or_named(rig):
    elsewhere = {"x-amz-bucket-region": "eu-central-1"}
    rig.faults.put("PutObject", answer(301, "PermanentRedirect", elsewhere))
    assert rig.create(attempt="a")

    rig.faults.put_always("GetObject", answer(301, "PermanentRedirect", elsewhere))
    with pytest.raises(OutputUnfit, match="in another region"):
        rig.store.read(PART)


@pytest.mark.case(22)
def test_a_name_that_was_deleted_in_a_versioned_bucket_is_free(rig, bucket):
    bucket.Versioning().enable()
    rig.create(b"first", attempt="a")
    bucket.Object(f"run/{PART}").delete()

    assert rig.create(b"second", attempt="b")
    assert rig.store.read(PART) == b"second"


@pytest.mark.case(24)
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
