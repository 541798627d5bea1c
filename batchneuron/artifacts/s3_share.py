"""A bucket of artifacts: files under their SHA-256, then `artifact.json`, whose creation is the commit.

    <prefix>/<key>/<sha256 of a file>
    <prefix>/<key>/artifact.json

Two machines that share the same program at once write different names where their bytes differ, so
neither harms the other; `artifact.json` goes last, if none is there, and whoever is second removes its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from batchneuron.artifacts.entry import INDEX, Entry, parse_index
from batchneuron.artifacts.share import Unreachable
from batchneuron.errors import BackendError, OutputForbidden, OutputUnfit, OutputUnwritable
from batchneuron.stores.s3_client import S3, read_status, split_uri
from batchneuron.stores.s3_requests import Patience, S3Requests

PATIENCE = Patience(first_s=10.0, later_s=60.0)
"""Less than for a run's output: a job can do without the store."""


def open_s3_share(location: str) -> S3Share:
    """The share of `s3://bucket/prefix`; nothing is asked of it yet.

    Raises:
        BackendError: boto3 is not installed, or there are no credentials.
    """
    bucket, prefix = split_uri(location)
    where = f"{S3}{bucket}/{prefix}".rstrip("/")
    with _asking(where):
        return S3Share(S3Requests(where, patience=PATIENCE), bucket, prefix)


@dataclass(frozen=True, slots=True)
class S3Share:
    """Entries below one prefix of a bucket."""

    requests: S3Requests
    bucket: str
    prefix: str

    @property
    def location(self) -> str:
        """The URI: `s3://bucket/prefix`."""
        return self.requests.location

    def list_keys(self) -> frozenset[str]:
        """Prefixes, a thousand at a time; one that lacks its artifact.json still, or for ever, among them."""
        start, keys = f"{self.prefix}/".removeprefix("/"), set()
        wanted = {"Bucket": self.bucket, "Prefix": start, "Delimiter": "/"}
        with _asking(self.location):
            while True:
                page = self.requests.send(partial(_list_page, wanted))
                keys |= {each["Prefix"][len(start) : -1] for each in page.get("CommonPrefixes", ())}
                if not page.get("NextContinuationToken"):
                    return frozenset(keys)
                wanted = {**wanted, "ContinuationToken": page["NextContinuationToken"]}

    def read_index(self, key: str) -> bytes | None:
        """An entry's artifact.json."""

        def read(client: Any) -> bytes:
            content: bytes = client.get_object(**self._place(key, INDEX))["Body"].read()
            return content

        with _asking(self.location), _unless(404):
            return self.requests.send(read)
        return None

    def download(self, entry: Entry, folder: Path) -> None:
        """Fetch the files; one that is gone is left out, and seen when the entry is verified."""
        for name, record in entry.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            fetch = partial(_fetch, self._place(entry.key, record.sha256), folder / name)
            with _asking(self.location), _unless(404):
                self.requests.send(fetch)

    def upload(self, entry: Entry, folder: Path, *, replace: bool) -> bool:
        """Send the files, then the commit."""
        content = (folder / INDEX).read_bytes()
        if not replace and self.read_index(entry.key) is not None:
            return False
        condition = {} if replace else {"IfNoneMatch": "*"}
        commit = {**self._place(entry.key, INDEX), "Body": content, **condition}
        with _asking(self.location), _unless(412):
            for name, record in entry.files.items():
                self.requests.send(partial(_store, self._place(entry.key, record.sha256), folder / name))
            self.requests.send(lambda client: client.put_object(**commit))
            return True
        return self._settle(entry, content)

    def _settle(self, entry: Entry, content: bytes) -> bool:
        """Whether the commit that is there is ours after all; if it is another's, our files go."""
        theirs = self.read_index(entry.key)
        if theirs is None:
            raise Unreachable("an entry came and went while it was shared")
        if theirs == content:
            return True
        kept = {record.sha256 for record in parse_index(theirs, self.location).files.values()}
        with contextlib.suppress(OutputUnwritable):  # the right to delete may be missing
            for record in entry.files.values():
                if record.sha256 not in kept:
                    self.requests.send(partial(_delete, self._place(entry.key, record.sha256)))
        return False

    def _place(self, key: str, name: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": f"{self.prefix}/{key}/{name}".removeprefix("/")}


def _fetch(place: dict[str, str], path: Path, client: Any) -> None:
    from boto3.exceptions import RetriesExceededError

    try:
        client.download_file(**place, Filename=path)
    except RetriesExceededError as error:  # it has tried the body five times by then
        raise Unreachable(str(error.last_exception)) from error


def _list_page(wanted: dict[str, str], client: Any) -> Any:
    return client.list_objects_v2(**wanted)


def _store(place: dict[str, str], path: Path, client: Any) -> None:
    with path.open("rb") as file:  # upload_file would wrap what S3 says into an error of its own
        client.upload_fileobj(Fileobj=file, **place)


def _delete(place: dict[str, str], client: Any) -> None:
    client.delete_object(**place)


@contextlib.contextmanager
def _unless(status: int) -> Iterator[None]:
    """What is there (412) or gone (404) is an answer."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if read_status(error) != status:
            raise


@contextlib.contextmanager
def _asking(location: str) -> Iterator[None]:
    """A run folder's errors as those of a share: what the user must change, or what may pass."""
    try:
        yield
    except OutputUnfit as error:
        raise BackendError(error.what, location, "correct backend.artifacts") from error
    except OutputForbidden as error:
        hint = "allow s3:GetObject, s3:PutObject, s3:ListBucket; set AWS_PROFILE, or give the machine a role"
        raise BackendError(error.what, location, hint) from error
    except OutputUnwritable as error:
        raise Unreachable(error.what) from error
