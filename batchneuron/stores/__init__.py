"""The stores, one file each."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from batchneuron.errors import OutputUnwritable
from batchneuron.stores.local import LocalStore
from batchneuron.stores.s3 import open_s3_store
from batchneuron.stores.store import Store


def read_object(uri: str) -> bytes | None:
    """The bytes of one object in a store, None where there is none.

    Raises:
        OutputUnwritable: the store cannot be read.
    """
    folder, _, name = uri.rpartition("/")
    return open_store(folder).read(name)


def open_store(location: str) -> Store:
    """The store of a run folder.

    Raises:
        OutputUnwritable: no store knows this kind of location, or it can be none.
        BackendError: boto3 is missing, for s3://.
    """
    scheme, found, _ = location.partition("://")
    if not found:
        return LocalStore(Path(location).expanduser().absolute())
    if scheme == "s3":
        return open_s3_store(location)
    if scheme == "file":
        return LocalStore(Path(unquote(urlsplit(location).path)))
    raise OutputUnwritable(
        f"no store for '{scheme}://' in this version",
        location,
        "write to s3:// or to a local folder, and copy it from there",
    )
