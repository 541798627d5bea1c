"""Artifacts through a bucket: fetched whole or not at all, and whoever commits first is believed."""

import json
import socket
from collections.abc import Iterator

import boto3
import pytest
from botocore.session import Session
from moto.server import ThreadedMotoServer

from batchneuron.artifacts import compile_artifact, is_intact, list_artifacts, s3_share
from batchneuron.artifacts.entry import read_entry
from batchneuron.artifacts.exchange import list_shared_keys
from batchneuron.artifacts.s3_share import S3Share, open_s3_share
from batchneuron.errors import BackendError
from batchneuron.planning.shapes import Ladder
from batchneuron.programs.compile import CompileWatch, Sharing, compile_missing
from batchneuron.stores import s3_requests
from batchneuron.stores.s3_requests import Patience, S3Requests
from tests.backends.arithmetic import ArithmeticBackend
from tests.stores.s3_faults import answer
from tests.test_artifacts import LADDER, REQUEST, SHAPE

SHARE = Sharing("s3://programs/team/cache")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """An empty bucket on this machine, found the usual way."""
    use_endpoint(monkeypatch, endpoint)
    bucket = boto3.resource("s3").create_bucket(Bucket="programs")
    yield bucket
    bucket.objects.delete()
    bucket.delete()


def use_endpoint(monkeypatch, url):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)


def build(cache, sharing=SHARE, backend=None):
    """What compile_missing gives, its events as text, and how often it compiled."""
    told, backend = [], backend or ArithmeticBackend()
    watch = CompileWatch(lambda event: told.append(f"{event.step} {event.shape} {event.note}".strip()))
    artifacts = list_artifacts(backend, REQUEST, LADDER, cache)
    return compile_missing(backend, REQUEST, artifacts, watch, sharing), told, len(backend.compiled)


def test_another_machine_fetches_what_one_compiled(bucket, tmp_path):
    first, _, count = build(tmp_path / "one")
    assert count == 3

    second, told, count = build(tmp_path / "two")

    assert told == ["fetched 1x77", "fetched 4x32", "fetched 8x16"]
    assert count == 0
    assert all(is_intact(artifact.folder) for artifact in second.artifacts)
    key = first.artifacts[0].key
    digests = {record.sha256 for record in read_entry(first.artifacts[0].folder).files.values()}
    assert {item.key for item in bucket.objects.filter(Prefix=f"team/cache/{key}/")} == {
        f"team/cache/{key}/{name}" for name in {*digests, "artifact.json"}
    }


def test_keys_are_listed_page_by_page_and_files_are_not(bucket, tmp_path):
    first, _, _ = build(tmp_path / "one")
    bucket.Object("team/another/thing").put(Body=b"x")
    share, pages = open_s3_share(SHARE.location), []

    def turn(params, **_):
        pages.append(params)
        params["MaxKeys"] = 2

    share.requests.client.meta.events.register("provide-client-params.s3.ListObjectsV2", turn)

    assert share.list_keys() == {artifact.key for artifact in first.artifacts}
    assert len(pages) == 2
    assert open_s3_share("s3://programs").list_keys() == {"team"}
    assert open_s3_share("s3://programs/nothing").list_keys() == set()


def test_keys_of_a_bucket_that_gives_no_answer_are_none(bucket, monkeypatch):
    assert list_shared_keys(Sharing("s3://nowhere/cache")) == set()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        use_endpoint(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(s3_share, "PATIENCE", Patience(0, 0))
        monkeypatch.setattr(s3_requests, "_ATTEMPTS", 1)

        assert list_shared_keys(SHARE) == set()


@pytest.mark.case(46)
@pytest.mark.parametrize("damage", ["altered", "gone", "no json"])
def test_a_broken_shared_entry_is_compiled_here_and_repaired(bucket, tmp_path, damage):
    first, _, _ = build(tmp_path / "one")
    entry = read_entry(first.artifacts[0].folder)
    place = bucket.Object(f"team/cache/{entry.key}/{entry.files['weights.bin'].sha256}")
    match damage:
        case "altered":
            place.put(Body=bytes(256))
        case "gone":
            place.delete()
        case "no json":
            bucket.Object(f"team/cache/{entry.key}/artifact.json").put(Body=b"{")

    second, told, count = build(tmp_path / "two")

    assert count == 1
    assert told[2].startswith(f"warned 8x16 s3://programs/team/cache/{entry.key}: ")
    assert told[3:] == ["started 8x16", "compiled 8x16"]
    assert all(is_intact(artifact.folder) for artifact in second.artifacts)
    assert build(tmp_path / "three")[2] == 0


def test_an_entry_that_names_files_elsewhere_writes_nothing_there(bucket, tmp_path):
    first, _, _ = build(tmp_path / "one")
    key = first.artifacts[0].key
    index = json.loads((first.artifacts[0].folder / "artifact.json").read_text())
    index["files"]["../../escaped"] = index["files"].pop("weights.bin")
    bucket.Object(f"team/cache/{key}/artifact.json").put(Body=json.dumps(index).encode())

    _, told, count = build(tmp_path / "two")

    assert count == 1
    assert any("names a file that is not its own" in event for event in told)
    assert not list(tmp_path.rglob("escaped"))


class Scribble(ArithmeticBackend):
    """A compiler that never gives the same bytes twice."""

    def compile(self, request, shape, folder):
        ArithmeticBackend.compile(self, request, shape, folder)
        (folder / "weights.bin").write_bytes(str(folder).encode())


def compile_one(cache):
    (artifact,) = list_artifacts(Scribble(), REQUEST, Ladder((SHAPE,)), cache)
    compile_artifact(Scribble(), REQUEST, artifact)
    return artifact


def test_who_commits_second_drops_its_own_files(bucket, tmp_path, monkeypatch):
    ours, theirs = compile_one(tmp_path / "one"), compile_one(tmp_path / "two")
    share = open_s3_share(SHARE.location)
    # Both have looked and found nothing: the other one commits while our files are on their way.
    real, looked = s3_share.S3Share.read_index, []

    def read_nothing_at_first(self, key):
        looked.append(key)
        return None if len(looked) == 1 else real(self, key)

    assert share.upload(read_entry(theirs.folder), theirs.folder, replace=False)
    monkeypatch.setattr(s3_share.S3Share, "read_index", read_nothing_at_first)
    assert not share.upload(read_entry(ours.folder), ours.folder, replace=False)

    names = {item.key.rpartition("/")[2] for item in bucket.objects.all()}
    assert names == {
        "artifact.json",
        *(record.sha256 for record in read_entry(theirs.folder).files.values()),
    }


@pytest.mark.case(13)
def test_a_commit_whose_answer_was_lost_is_ours(bucket, tmp_path):
    artifact = compile_one(tmp_path / "one")
    share = open_s3_share(SHARE.location)
    sent = []

    def lose_answer(request, **_):
        if request.url.endswith("artifact.json") and request.method == "PUT" and not sent:
            sent.append(request)
            bucket.Object(f"team/cache/{artifact.key}/artifact.json").put(
                Body=(artifact.folder / "artifact.json").read_bytes()
            )

    share.requests.client.meta.events.register("before-send.s3.PutObject", lose_answer)

    assert share.upload(read_entry(artifact.folder), artifact.folder, replace=False)
    assert sent


@pytest.mark.case(15)
def test_a_conflict_is_sent_again(bucket, tmp_path):
    artifact = compile_one(tmp_path / "one")
    rests, faults = [], [answer(409, "ConditionalRequestConflict")] * 3
    requests = S3Requests(SHARE.location, rest=rests.append)
    share = S3Share(requests, "programs", "team/cache")
    requests.client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: faults.pop()(request) if request.url.endswith(".json") and faults else None,
    )

    assert share.upload(read_entry(artifact.folder), artifact.folder, replace=False)
    assert share.read_index(artifact.key) == (artifact.folder / "artifact.json").read_bytes()
    assert not faults and len(rests) == 3


@pytest.mark.case(21)
def test_credentials_that_come_late_are_waited_for_and_without_any_it_says_so(bucket, monkeypatch):
    looked, find = [], Session.get_credentials
    monkeypatch.setattr(
        Session, "get_credentials", lambda self: looked.append(1) or (find(self) if len(looked) > 1 else None)
    )
    assert open_s3_share(SHARE.location).read_index("x") is None

    monkeypatch.setattr(Session, "get_credentials", lambda _: None)
    monkeypatch.setattr(s3_share, "PATIENCE", Patience(credentials_s=0))
    with pytest.raises(BackendError, match="no AWS credentials were found"):
        open_s3_share(SHARE.location)


def test_a_bucket_that_is_not_there_is_an_error(bucket, tmp_path):
    with pytest.raises(BackendError, match="there is no such bucket"):
        build(tmp_path / "one", Sharing("s3://nowhere/cache"))


def test_without_a_network_the_local_cache_is_enough_and_else_it_compiles(bucket, tmp_path, monkeypatch):
    build(tmp_path / "one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        use_endpoint(monkeypatch, f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr(s3_share, "PATIENCE", Patience(0, 0))
        monkeypatch.setattr(s3_requests, "_ATTEMPTS", 1)

        assert build(tmp_path / "one")[1] == ["reused 1x77", "reused 4x32", "reused 8x16"]
        compiled, told, count = build(tmp_path / "two")

    assert count == 3
    assert "s3://programs/team/cache: no answer, compiling here" in told[0]
    assert len(compiled.not_shared) == 3


def test_without_boto3_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)

    with pytest.raises(BackendError) as caught:
        build(tmp_path / "one")
    assert "pip install '.[aws]'" in caught.value.hint
