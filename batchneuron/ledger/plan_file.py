"""The plan's file: JSON, packed, and named by its content, so that nothing else can pass for it."""

from __future__ import annotations

import contextlib

import pyarrow as pa

from batchneuron.ledger.run_names import LEDGER, plan_name
from batchneuron.stores.store import Store

_PACKING = "zstd"


def read_text(store: Store, name: str) -> bytes | None:
    """The text of the plan of that name, None where the file is gone, or is not that plan."""
    content = store.read(f"{LEDGER}/{name}")
    return None if content is None else _unpack(content, name)


def write_text(store: Store, text: bytes) -> str:
    """Put the text of a plan there, in the place of what is damaged; the name of its file."""
    name = plan_name(text)
    where, content = f"{LEDGER}/{name}", _pack(text)
    if not store.create_bytes(where, content):
        found = store.read(where)
        if found is not None and _unpack(found, name) is None:
            store.replace_if(where, content, found)
    return name


def _pack(text: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, _PACKING) as stream:
        stream.write(text)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def _unpack(content: bytes, name: str) -> bytes | None:
    with contextlib.suppress(OSError):
        text: bytes = pa.input_stream(pa.BufferReader(content), compression=_PACKING).read()
        return text if plan_name(text) == name else None
    return None
