"""A bucket as a value: what each S3 call answers, and what it leaves behind. Nothing else ever happens in it.

`ModelClient` has the calls of a boto3 client that the package uses, so that the package's own store runs on
it; `test_stores_alike.py` holds it against moto.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError


@dataclass(frozen=True, slots=True)
class Stored:
    """One object."""

    body: bytes
    metadata: tuple[tuple[str, str], ...] = ()
    checksum: str = ""

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.body).hexdigest()}"'


Objects = Mapping[str, Stored]


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    verb: str
    key: str
    stored: Stored = Stored(b"")
    """What a PUT brings."""
    if_none_match: str = ""
    if_match: str = ""
    span: str = ""
    """`Range` of a GET."""

    @property
    def is_write(self) -> bool:
        return self.verb in ("PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and an object, or the keys and sizes of a listing."""

    status: int
    stored: Stored = Stored(b"")
    listed: tuple[tuple[str, int], ...] = ()


def answer_call(objects: Objects, call: Call) -> tuple[Objects, Answer]:
    """What is there afterwards, and what S3 says."""
    found = objects.get(call.key)
    match call.verb:
        case "LIST":
            below = ((key, len(each.body)) for key, each in objects.items() if key.startswith(call.key))
            direct = [(key, size) for key, size in below if "/" not in key.removeprefix(call.key)]
            return objects, Answer(200, listed=tuple(sorted(direct)))
        case "DELETE":
            return {key: each for key, each in objects.items() if key != call.key}, Answer(204)
        case "PUT":
            status = _judge_condition(found, call)
            return ({**objects, call.key: call.stored} if status == 200 else objects), Answer(status)
    if found is None:
        return objects, Answer(404)
    if call.if_match not in ("", found.etag):
        return objects, Answer(412)
    return objects, Answer(200, found)


def _judge_condition(found: Stored | None, call: Call) -> int:
    """Source: "Conditional writes" of the Amazon S3 user guide; If-Match on a missing key is 404."""
    if call.if_none_match == "*" and found is not None:
        return 412
    if not call.if_match:
        return 200
    return 404 if found is None else 200 if call.if_match == found.etag else 412


class ModelClient:
    """As much of a boto3 S3 client as the store calls; `ask` decides what becomes of each call."""

    def __init__(self, ask: Callable[[Call], Answer]) -> None:
        self._ask = ask
        self._deleted: set[str] = set()
        """Of the batch that is being removed: what is lost is sent again, and what is done is done."""
        self.meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_, **__: None))

    def put_object(self, **given: Any) -> dict[str, str]:
        body = given["Body"] if isinstance(given["Body"], bytes) else given["Body"].read()
        stored = Stored(
            body, tuple(sorted(given.get("Metadata", {}).items())), given.get("ChecksumSHA256", "")
        )
        conditions = given.get("IfNoneMatch", ""), given.get("IfMatch", "")
        self._send(Call("PUT", given["Key"], stored, *conditions))
        return {"ETag": stored.etag}

    def delete_object(self, **given: Any) -> None:
        self._send(Call("DELETE", given["Key"]))

    def delete_objects(self, **given: Any) -> dict[str, Any]:
        """S3 removes one after the other, and whoever looks meanwhile sees that."""
        for item in given["Delete"]["Objects"]:
            if item["Key"] not in self._deleted:
                self.delete_object(Key=item["Key"])
                self._deleted.add(item["Key"])
        self._deleted.clear()
        return {}

    def head_object(self, **given: Any) -> dict[str, Any]:
        stored = self._send(Call("HEAD", given["Key"])).stored
        told = {"ETag": stored.etag, "ContentLength": len(stored.body), "Metadata": dict(stored.metadata)}
        return {**told, "ChecksumSHA256": stored.checksum} if stored.checksum else told

    def get_object(self, **given: Any) -> dict[str, Any]:
        span = given.get("Range", "")
        stored = self._send(Call("GET", given["Key"], if_match=given.get("IfMatch", ""), span=span)).stored
        first, _, last = span.removeprefix("bytes=").partition("-")
        body = stored.body[int(first) : int(last) + 1] if span else stored.body
        return {"Body": io.BytesIO(body), "ETag": stored.etag, "Metadata": dict(stored.metadata)}

    def list_objects_v2(self, **given: Any) -> dict[str, Any]:
        listed = self._send(Call("LIST", given["Prefix"])).listed
        return {"Contents": [{"Key": key, "Size": size} for key, size in listed]}

    def _send(self, call: Call) -> Answer:
        answer = self._ask(call)
        if answer.status >= 400:
            code = "NoSuchKey" if answer.status == 404 else "PreconditionFailed"
            about = {"HTTPStatusCode": answer.status}
            raise ClientError({"Error": {"Code": code}, "ResponseMetadata": about}, call.verb)
        return answer


class Bucket:
    """One that answers at once: for tests that need a bucket and no schedule."""

    def __init__(self) -> None:
        self.objects: Objects = {}

    def ask(self, call: Call) -> Answer:
        self.objects, answer = answer_call(self.objects, call)
        return answer


def checksum(body: bytes) -> str:
    """As S3 tells it."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()
