"""A run folder in a bucket: each part one PUT that fails where the name is taken.

A part is one request, never a multipart upload, so nothing is left behind by a writer that dies. No
answer to a PUT proves nothing, so it is sent again; who then finds the name taken asks whose object
stands there, and it may be its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from batchneuron.errors import OutputConflict, OutputUnfit, OutputUnwritable
from batchneuron.stores.at_once import map_at_once
from batchneuron.stores.footer import read_pairs
from batchneuron.stores.s3_client import S3, read_date, read_status, split_uri
from batchneuron.stores.s3_object import S3Object
from batchneuron.stores.s3_probe import require_exclusive
from batchneuron.stores.s3_requests import S3Requests
from batchneuron.stores.s3_scratch import S3Scratch
from batchneuron.stores.store import Draft, Entry

LARGEST_BYTES = 5 << 30  # what S3 takes in one PUT
_LEDGER = ".batchneuron"
_ROUNDS = 8
_ADVISORY_S = 20.0  # nobody waits longer for what may be missing
_BYTES_AT_A_TIME = 8 << 20
_KEYS_AT_A_TIME = 1_000  # DeleteObjects takes no more
_T = TypeVar("_T")
_Open = Callable[[], AbstractContextManager[Any]]


def open_s3_store(location: str) -> S3Store:
    """The store of `s3://bucket/prefix`; nothing is asked of it yet.

    Raises:
        OutputUnfit: it names no bucket, or a prefix that readers would take for another.
        BackendError: boto3 is not installed.
    """
    bucket, prefix = split_uri(location)
    if not bucket or {"", ".", ".."} & set(prefix.split("/") if prefix else ()):
        hint = "write s3://bucket/prefix, without empty names, '.' or '..'"
        raise OutputUnfit("not the name of a run folder", location, hint)
    requests = S3Requests(f"{S3}{bucket}/{prefix}".rstrip("/"))
    return S3Store(requests, bucket, prefix, S3Scratch(requests.location))


@dataclass(frozen=True, slots=True)
class S3Store:
    """Objects below one prefix of a bucket."""

    requests: S3Requests
    bucket: str
    prefix: str
    scratch: S3Scratch

    @property
    def location(self) -> str:
        """The URI, without a slash at its end."""
        return self.requests.location

    def count_throttled(self) -> int:
        """Answers until now that asked to slow down."""
        return self.requests.throttled

    def verify(self, need_bytes: int) -> None:
        """Room on the local disk, and a race of eight writers that only one wins."""
        self.scratch.require_room(need_bytes)
        require_exclusive(self.requests, self.bucket, self._key(_LEDGER))

    def prepare(self, wanted: str | None = None) -> None:
        """Remove scratch files of dead processes, and publish parts that S3 did not take then."""
        self.scratch.prepare()
        for name, draft in self.scratch.take_kept(wanted) if wanted else ():
            self.create(name, draft)

    def scratch_file(self, attempt: str) -> Path:
        """A path on the local disk, named after this process."""
        return self.scratch.name_file(attempt)

    def create(self, name: str, draft: Draft) -> bool:
        """Send the file, unless the name is taken. One that S3 did not take is kept for the next run."""
        size_bytes = draft.path.stat().st_size
        if size_bytes > LARGEST_BYTES:
            draft.path.unlink()
            raise OutputUnfit(
                f"a part of {size_bytes / (1 << 30):.1f} GiB, and S3 takes 5 GiB at a time",
                f"{self.location}/{name}",
                "set output.shard_rows to fewer rows",
            )
        try:
            is_created = self._put_new(name, lambda: draft.path.open("rb"), draft.sha256, draft.tags)
        except OutputUnwritable as error:
            kept = self.scratch.keep(name, draft)
            hint = f"{error.hint}: on this host it publishes {kept} first"
            raise type(error)(error.what, error.where, hint) from error
        draft.path.unlink(missing_ok=True)
        return is_created

    def create_bytes(self, name: str, content: bytes) -> bool:
        """Publish some bytes, unless the name is taken."""
        return self._put_new(name, lambda: io.BytesIO(content), hashlib.sha256(content).hexdigest(), {})

    def _put_new(self, name: str, open_body: _Open, sha256: str, tags: Mapping[str, str]) -> bool:
        """The same attempt until S3 has taken it, or another's object stands there."""
        attempt = tags.get("attempt") or uuid.uuid4().hex
        metadata = {**tags, "attempt": attempt, "sha256": sha256}
        checksum = base64.b64encode(bytes.fromhex(sha256)).decode()

        def send(client: Any) -> None:
            with open_body() as body:
                client.put_object(
                    **self._place(name),
                    Body=body,
                    ChecksumSHA256=checksum,
                    Metadata=metadata,
                    IfNoneMatch="*",
                )

        for _ in range(_ROUNDS):
            if not self._is_taken(send):
                return True
            head = self._head(name)
            if head is not None:
                return bool(head["Metadata"].get("attempt") == attempt)
        raise OutputUnwritable(
            "an object comes and goes", f"{self.location}/{name}", "stop whatever deletes objects there"
        )

    def replace_bytes(self, name: str, content: bytes) -> None:
        """Publish some bytes over what is there.

        On condition that it still is what it was, so that a bucket may demand conditional writes.
        """
        for _ in range(_ROUNDS):
            head = self._head(name, _ADVISORY_S)
            condition = {"IfNoneMatch": "*"} if head is None else {"IfMatch": head["ETag"]}
            put = partial(_put, {**self._place(name), **condition, "Body": content})
            if not self._is_taken(put, _ADVISORY_S):
                return
        raise OutputUnwritable(
            "others keep writing it", f"{self.location}/{name}", "run the same command again"
        )

    def replace_if(self, name: str, content: bytes, expected: bytes) -> bool:
        """Publish some bytes over what is there, on the ETag that came with what was expected."""
        found = self._unless_gone(partial(_get, self._place(name)))
        if found is None or found[0] != expected:
            return False
        attempt = uuid.uuid4().hex
        arguments = {"Body": content, "IfMatch": found[1], "Metadata": {"attempt": attempt}}
        if not self._is_taken(partial(_put, {**self._place(name), **arguments})):
            return True
        head = self._head(name)
        return head is not None and head["Metadata"].get("attempt") == attempt

    def delete(self, name: str) -> None:
        """Remove an object; S3 does not mind if it is not there."""
        self.requests.send(lambda client: client.delete_object(**self._place(name)))

    def delete_many(self, names: Sequence[str]) -> None:
        """Remove objects, a thousand with each request, until one is refused."""
        for start in range(0, len(names), _KEYS_AT_A_TIME):
            keys = [{"Key": self._key(name)} for name in names[start : start + _KEYS_AT_A_TIME]]
            wanted = {"Bucket": self.bucket, "Delete": {"Objects": keys, "Quiet": True}}
            self.requests.send(partial(_delete, wanted))

    def read(self, name: str) -> bytes | None:
        """The object's bytes, None where there is none."""
        found = self._unless_gone(partial(_get, self._place(name)))
        return None if found is None else found[0]

    def read_many(self, names: Sequence[str]) -> tuple[bytes | None, ...]:
        """The bytes of each object, None where there is none; sixteen are asked for at once."""
        return tuple(map_at_once(self.read, names))

    def read_tags(self, name: str) -> Mapping[str, str]:
        """The object's own metadata, of which `sha256` is what S3 held its bytes against."""
        head = self._head(name)
        return {} if head is None else dict(head["Metadata"])

    def read_sha256(self, name: str) -> str:
        """What S3 verified when it took the object; one without a checksum is read in pieces."""
        head = self._head(name)
        if head is None:
            raise OutputConflict("no such object", f"{self.location}/{name}", "run the same command again")
        if head.get("ChecksumSHA256") and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
            return base64.b64decode(head["ChecksumSHA256"]).hex()
        digest, file = hashlib.sha256(), self._open(name)
        while content := file.read(_BYTES_AT_A_TIME):
            digest.update(content)
        return digest.hexdigest()

    def read_footer(self, name: str) -> Mapping[str, str]:
        """The Parquet file's key-value metadata, with `num_rows`; only its end is fetched."""
        return read_pairs(pa.PythonFile(self._open(name)), f"{self.location}/{name}")

    def list(self, folder: str) -> tuple[Entry, ...]:
        """Objects directly in a folder, by name; a thousand at a time."""
        start = self._key(folder) + "/"
        wanted = {"Bucket": self.bucket, "Prefix": start, "Delimiter": "/"}
        entries: list[Entry] = []
        while True:
            page = self.requests.send(partial(_list_page, wanted))
            found, now = page.get("Contents", []), read_date(page)
            entries += [_describe(each, start, now) for each in found]
            if not page.get("NextContinuationToken"):
                break
            wanted = {**wanted, "ContinuationToken": page["NextContinuationToken"]}
        return tuple(sorted((entry for entry in entries if entry.name), key=lambda entry: entry.name))

    def open_table(self, name: str) -> Any:
        """The object as a file that is read by ranges."""
        return pa.PythonFile(self._open(name))

    def _open(self, name: str) -> S3Object:
        from botocore.exceptions import ClientError

        try:
            return S3Object(self.requests, self.bucket, self._key(name))
        except ClientError as error:
            where = f"{self.location}/{name}"
            raise OutputConflict("no such object", where, "run the same command again") from error

    def _head(self, name: str, most_s: float = float("inf")) -> Mapping[str, Any] | None:
        return self._unless_gone(
            lambda client: dict(client.head_object(**self._place(name), ChecksumMode="ENABLED")), most_s
        )

    def _unless_gone(self, call: Callable[[Any], _T], most_s: float = float("inf")) -> _T | None:
        from botocore.exceptions import ClientError

        try:
            return self.requests.send(call, most_s)
        except ClientError as error:
            if read_status(error) != 404:
                raise
            return None

    def _is_taken(self, put: Callable[[Any], Any], most_s: float = float("inf")) -> bool:
        """Send a conditional PUT: whether its condition did not hold."""
        from botocore.exceptions import ClientError

        try:
            self.requests.send(put, most_s)
        except ClientError as error:
            # 404: what it was to replace is gone.
            if read_status(error) not in (404, 412):
                raise
            return True
        return False

    def _place(self, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(name)}

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}".removeprefix("/")


def _describe(item: Mapping[str, Any], start: str, now: datetime | None) -> Entry:
    age_s = (now - item["LastModified"]).total_seconds() if now is not None else 0.0
    return Entry(item["Key"].removeprefix(start), item["Size"], max(0.0, age_s))


def _get(place: Mapping[str, str], client: Any) -> tuple[bytes, str]:
    answer = client.get_object(**place)
    return answer["Body"].read(), answer["ETag"]


def _put(arguments: Mapping[str, Any], client: Any) -> None:
    client.put_object(**arguments)


def _delete(arguments: Mapping[str, Any], client: Any) -> None:
    """Raises what S3 says of the first key that it does not remove: it says so in an answer of 200."""
    from botocore.exceptions import ClientError

    answer = client.delete_objects(**arguments)
    for error in answer.get("Errors", ()):
        raise ClientError({"Error": error, "ResponseMetadata": answer["ResponseMetadata"]}, "DeleteObjects")


def _list_page(arguments: Mapping[str, Any], client: Any) -> Mapping[str, Any]:
    page: Mapping[str, Any] = client.list_objects_v2(**arguments)
    return page
