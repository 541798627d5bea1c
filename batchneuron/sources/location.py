"""Where files live: one way to stat and open local paths and `s3://` URIs.

Also the one place that turns an Arrow or system error into an error that names the file. Knows
nothing of formats.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from batchneuron.errors import (
    DataError,
    SourceChanged,
    SourceForbidden,
    SourceNotFound,
    SourceUnavailable,
    SourceUnreadable,
)
from batchneuron.sources.source import FileId

S3 = "s3://"
_THREADS = 16
# What S3 answers, in the words of Arrow: "AWS Error ACCESS_DENIED during HeadObject operation".
_AWS_SAID = re.compile(r"AWS Error .*", re.DOTALL)
_AWS_MISSING = re.compile(r"NO_SUCH|NOT_FOUND|HTTP status 404")
_AWS_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION"
    r"|SIGNATURE|EXPIRED|NOT_AUTHORIZED|OPT_IN_REQUIRED|HTTP status 40[13]"
    r"|HTTP status 400\) during Head"  # which has no body to name an expired token in
)
_NOT_THE_FILES = {
    *(errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINTR),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE),
    *(errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENOTCONN),
}
_T = TypeVar("_T")


def absolute_uri(path: str) -> str:
    """`path` as a local absolute path or an `s3://` URI; `~`, `file://` and relative paths are resolved."""
    if path.startswith(S3):
        return path
    if path.startswith("file://"):
        path = unquote(urlsplit(path).path)
    elif "://" in path:
        scheme = path.split("://")[0]
        raise DataError(f"'{scheme}://' is not a scheme that can be read", path, "use a local path or s3://")
    return str(Path(path).expanduser().absolute())


def filesystem_of(uri: str) -> tuple[Any, str]:
    """The file system that holds `uri`, and the path of `uri` in it.

    Raises:
        SourceNotFound: there is no bucket of that name.
        SourceForbidden: its region is not told to these credentials.
        SourceUnavailable: nothing answers.
    """
    if not uri.startswith(S3):
        return fs.LocalFileSystem(), uri
    path = uri.removeprefix(S3)
    bucket = path.split("/")[0]
    try:
        return _bucket_filesystem(bucket), path
    except (pa.ArrowException, OSError) as error:
        kind = type(name_fault(error, uri, "a bucket"))
        if kind not in (SourceForbidden, SourceUnavailable):
            kind = SourceNotFound
        hint = "check the bucket's name, the region, the credentials and the network"
        raise kind(f"bucket '{bucket}' cannot be opened: {first_line(error)}", uri, hint) from error


@lru_cache(maxsize=32)
def _bucket_filesystem(bucket: str) -> Any:
    # One client per bucket: making one asks for credentials and for the bucket's region.
    return fs.FileSystem.from_uri(S3 + bucket)[0]


def file_id(info: Any, like: str) -> FileId:
    """The identity of the file that `info` describes, on the file system of the URI `like`."""
    scheme = S3 if like.startswith(S3) else ""
    return FileId(scheme + info.path, info.size, str(info.mtime_ns))


def tell_versions(files: Iterable[FileId]) -> list[FileId]:
    """The same files; those in a bucket with their ETags, which a listing of Arrow's does not give."""
    return map_files(_tell_version, files)


def _tell_version(file: FileId) -> FileId:
    if not file.uri.startswith(S3):
        return file
    with reading(file.uri, "an object"), open_file(file.uri) as opened:  # one HEAD
        told = opened.metadata() or {}
    etag = told.get("ETag", b"").decode().strip('"')
    return replace(file, version=etag or file.version)


def stat(uri: str) -> Any:
    """Pyarrow's `FileInfo` of `uri`; its type is `NotFound` where nothing is there."""
    system, path = filesystem_of(uri)
    with reading(uri, "a file or folder"):
        return system.get_file_info(path)


def open_file(uri: str) -> Any:
    """`uri` opened for random access."""
    system, path = filesystem_of(uri)
    return system.open_input_file(path)


def verify_unchanged(file: FileId) -> None:
    """Check that a file still is what it was when it was listed.

    Raises:
        SourceChanged: it is not.
    """
    info = stat(file.uri)
    if info.type != fs.FileType.File:
        raise SourceChanged("the file was there when the run was planned and is gone", file.uri)
    now = _tell_version(file_id(info, file.uri))
    if now != file:
        raise SourceChanged(
            f"the file changed since the run was planned: it had {file.size_bytes} bytes (version "
            f"{file.version}), it has {now.size_bytes} bytes (version {now.version})",
            file.uri,
            "start a run in another output folder, or put the old file back",
        )


@contextmanager
def reading(uri: str, what: str) -> Iterator[None]:
    """Turn what Arrow or the system raises while `uri` is read as `what` into an error that names it.

    Raises:
        SourceNotFound: it is not there.
        SourceForbidden: it may not be read.
        SourceUnavailable: where it lies, nothing answers.
        SourceUnreadable: anything else, which is then the file's own fault.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise name_fault(error, uri, what) from error


def name_fault(error: BaseException, uri: str, what: str) -> DataError:
    """What Arrow or the system raised while `uri` was read as `what`, as an error that names it.

    A file is not to blame for what is true of any file there: no permission, a disk or network that fails.
    Arrow sets `errno` for what the system says, and names AWS in what S3 says; damage has neither.
    """
    if isinstance(error, FileNotFoundError):
        return SourceNotFound("no such file", uri)
    said = first_line(error)
    aws = _AWS_SAID.search(str(error))
    if aws and _AWS_MISSING.search(aws[0]):
        return SourceNotFound(f"it is not there: {said}", uri)
    if isinstance(error, PermissionError) or (aws and _AWS_REFUSED.search(aws[0])):
        hint = "let this user read it" if aws is None else "check the credentials and what they may read"
        return SourceForbidden(f"may not be read: {said}", uri, hint)
    if aws or getattr(error, "errno", None) in _NOT_THE_FILES:
        return SourceUnavailable(f"cannot be read now: {said}", uri, "run it again when it answers")
    return SourceUnreadable(f"cannot be read as {what}: {said}", uri)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, cut to a length that fits a message."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]


def map_files(function: Callable[[FileId], _T], files: Iterable[FileId]) -> list[_T]:
    """The results of `function` for all files, in order; many at a time, since opening is mostly waiting."""
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            return list(pool.map(function, files))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
