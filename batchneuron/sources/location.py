"""Where files live: one way to stat and open local paths and `s3://` URIs.

Also the one place that turns an Arrow or system error into an error that names the file. Knows
nothing of formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from batchneuron.errors import DataError, SourceChanged, SourceNotFound, SourceUnreadable
from batchneuron.sources.source import FileId

S3 = "s3://"
_THREADS = 16
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
        SourceNotFound: the bucket cannot be reached, or there is none of that name.
    """
    if not uri.startswith(S3):
        return fs.LocalFileSystem(), uri
    path = uri.removeprefix(S3)
    bucket = path.split("/")[0]
    try:
        return _bucket_filesystem(bucket), path
    except (pa.ArrowException, OSError) as error:
        hint = "check the bucket's name, the region, the credentials and the network"
        raise SourceNotFound(f"bucket '{bucket}' cannot be opened: {first_line(error)}", uri, hint) from error


@lru_cache(maxsize=32)
def _bucket_filesystem(bucket: str) -> Any:
    # One client per bucket: making one asks for credentials and for the bucket's region.
    return fs.FileSystem.from_uri(S3 + bucket)[0]


def file_id(info: Any, like: str) -> FileId:
    """The identity of the file that `info` describes, on the file system of the URI `like`."""
    scheme = S3 if like.startswith(S3) else ""
    return FileId(scheme + info.path, info.size, str(info.mtime_ns))


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
    now = file_id(info, file.uri)
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
        SourceUnreadable: anything else.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise SourceNotFound("no such file", uri) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceUnreadable(f"cannot be read as {what}: {first_line(error)}", uri) from error


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
