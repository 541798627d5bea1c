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
from pathlib import Path
from typing import Any

from batchneuron.artifacts.entry import INDEX, Entry, parse_index
from batchneuron.artifacts.share import Unreachable
from batchneuron.errors import BackendError
from batchneuron.stores.s3_client import create_object, open_client, read_status, split_uri

ATTEMPTS = 4  # less than for a run's output: a job can do without the store
_FORBIDDEN = (401, 403)


def open_s3_share(location: str) -> S3Share:
    """The share of `s3://bucket/prefix`; nothing is asked of it yet.

    Raises:
        BackendError: boto3 is not installed.
    """
    bucket, prefix = split_uri(location)
    return S3Share(open_client(ATTEMPTS), bucket, prefix)


@dataclass(frozen=True, slots=True)
class S3Share:
    """Entries below one prefix of a bucket."""

    client: Any
    bucket: str
    prefix: str

    @property
    def location(self) -> str:
        """The URI: `s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def read_index(self, key: str) -> bytes | None:
        """An entry's artifact.json."""
        with self._asking():
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key, INDEX))
            except self.client.exceptions.NoSuchKey:
                return None
            content: bytes = answer["Body"].read()
            return content

    def download(self, entry: Entry, folder: Path) -> None:
        """Fetch the files; one that is gone is left out, and seen when the entry is verified."""
        for name, record in entry.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with self._asking(), self._unless_gone():
                self.client.download_file(self.bucket, self._name(entry.key, record.sha256), folder / name)

    def upload(self, entry: Entry, folder: Path, *, replace: bool) -> bool:
        """Send the files, then the commit."""
        content = (folder / INDEX).read_bytes()
        if not replace and self.read_index(entry.key) is not None:
            return False
        place = {"Bucket": self.bucket, "Key": self._name(entry.key, INDEX), "Body": content}
        with self._asking():
            for name, record in entry.files.items():
                self.client.upload_file(folder / name, self.bucket, self._name(entry.key, record.sha256))
            if replace:
                self.client.put_object(**place)
                return True
            if create_object(lambda: self.client.put_object(**place, IfNoneMatch="*")) is not None:
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
        with contextlib.suppress(Unreachable, BackendError):  # the right to delete may be missing
            for record in entry.files.values():
                if record.sha256 not in kept:
                    with self._asking():
                        self.client.delete_object(
                            Bucket=self.bucket, Key=self._name(entry.key, record.sha256)
                        )
        return False

    def _name(self, key: str, name: str) -> str:
        return "/".join(part for part in (self.prefix, key, name) if part)

    @contextlib.contextmanager
    def _unless_gone(self) -> Iterator[None]:
        from botocore.exceptions import ClientError

        try:
            yield
        except ClientError as error:
            if read_status(error) != 404 or "NoSuchBucket" in str(error):
                raise

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """S3's own errors as those of a share: what the user must change, or what may pass."""
        from boto3.exceptions import S3UploadFailedError
        from botocore import exceptions

        try:
            yield
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise BackendError(
                "no AWS credentials were found", self.location, "set AWS_PROFILE, or give the machine a role"
            ) from error
        except (exceptions.BotoCoreError, exceptions.ClientError, S3UploadFailedError) as error:
            if "NoSuchBucket" in str(error):
                raise BackendError(
                    "there is no such bucket", self.location, "correct backend.artifacts"
                ) from error
            if read_status(error) in _FORBIDDEN or "AccessDenied" in str(error):
                raise BackendError(
                    f"S3 refuses it: {error}",
                    self.location,
                    "allow s3:GetObject, s3:PutObject and s3:ListBucket",
                ) from error
            raise Unreachable(str(error)) from error
