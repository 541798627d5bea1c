"""An S3 object as a file: each read is one ranged GET, and what is not read is not fetched."""

from __future__ import annotations

import io
from typing import Any

from batchneuron.stores.s3_requests import S3Requests


class S3Object(io.RawIOBase):
    """One version of an object, open for reading; its size and its ETag are asked for once."""

    def __init__(self, requests: S3Requests, bucket: str, key: str) -> None:
        """Open it.

        Raises:
            ClientError: with 404, there is none.
        """
        self._requests = requests
        self._place = {"Bucket": bucket, "Key": key}
        head = requests.send(lambda client: client.head_object(**self._place))
        self._etag: str = head["ETag"]
        self._size: int = head["ContentLength"]
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is asked of S3."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or all that follow; fewer only at the end.

        Raises:
            OSError: the object was replaced meanwhile.
        """
        from botocore.exceptions import ClientError

        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        wanted = f"bytes={self._at}-{end - 1}"
        try:
            content = self._requests.send(lambda client: self._fetch(client, wanted))
        except ClientError as error:
            raise OSError(f"it changed while it was read: {error}") from error
        self._at += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        """As `read`, into a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _fetch(self, client: Any, wanted: str) -> bytes:
        answer = client.get_object(**self._place, Range=wanted, IfMatch=self._etag)
        content: bytes = answer["Body"].read()
        return content
