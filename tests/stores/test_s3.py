"""A run folder in a bucket: whole objects under their names, the first stays."""

import hashlib
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.awsrequest import AWSResponse

from batchneuron.errors import OutputConflict, OutputForbidden
from batchneuron.stores import s3
from batchneuron.stores.store import Draft, Entry
from tests.stores.s3_faults import lose_answer
from tests.stores.s3_rig import PART, names_in, put_foreign


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


def answer_of_a_batch(code):
    """200, and one of the keys is still there."""

    def give(request):
        response = AWSResponse(request.url, 200, {}, None)
        error = f"<Error><Key>run/x</Key><Code>{code}</Code><Message>told to</Message></Error>"
        response._content = f"<?xml version='1.0'?><DeleteResult>{error}</DeleteResult>".encode()
        return response

    return give


NAMES = [f"data/{number}" for number in range(5)]


def test_many_are_deleted_by_the_batch(rig, monkeypatch):
    monkeypatch.setattr(s3, "_KEYS_AT_A_TIME", 2)
    for name in NAMES:
        rig.store.create_bytes(name, b"1")
    rig.faults.put("DeleteObjects", answer_of_a_batch("InternalError"))

    rig.store.delete_many([*NAMES[1:], "data/none"])

    assert [entry.name for entry in rig.store.list("data")] == ["0"]
    assert rig.faults.sent.count("DeleteObjects") == 4  # the first was sent again
    assert "DeleteObject" not in rig.faults.sent


def test_who_may_not_delete_asks_for_one_batch_alone(rig, monkeypatch):
    monkeypatch.setattr(s3, "_KEYS_AT_A_TIME", 2)
    rig.faults.put_always("DeleteObjects", answer_of_a_batch("AccessDenied"))

    with pytest.raises(OutputForbidden):
        rig.store.delete_many(NAMES)

    assert rig.faults.sent == ["DeleteObjects"] * 2  # once more with new credentials


def test_many_are_read_at_once_and_come_in_their_order(rig):
    for number in (0, 1, 3):
        rig.store.create_bytes(NAMES[number], b"%d" % number)
    together = threading.Barrier(len(NAMES))

    def meet(request):
        together.wait(30)

    rig.faults.put_always("GetObject", meet)

    assert rig.store.read_many(NAMES) == (b"0", b"1", None, b"3", None)


def test_what_an_object_was_published_with_is_one_request_away(rig):
    rig.create(b"first", attempt="a", rows="3")
    rig.faults.sent.clear()

    assert rig.store.read_tags(PART) == {
        "attempt": "a",
        "rows": "3",
        "sha256": hashlib.sha256(b"first").hexdigest(),
    }
    assert rig.store.read_tags("data/none") == {}
    assert rig.faults.sent == ["HeadObject"] * 2


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
