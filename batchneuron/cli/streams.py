"""Standard streams that never stop a job: closed ones, a reader that has gone, a full log disk.

And that tell no secrets: libraries write to stderr too.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from batchneuron.secrets import redact

_LOST = (OSError, RuntimeError)  # the latter from a signal's handler, in the middle of another write


class Lossy:
    """A text stream that drops what it cannot write, and strikes out credentials; else it is the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, credentials struck out; or not."""
        with contextlib.suppress(*_LOST):
            self._stream.write(redact(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(*_LOST):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def open_streams() -> Iterator[None]:
    """While it lasts, stdin, stdout and stderr are there, and what is said on stderr stops nothing."""
    for descriptor in range(3):
        _require_open(descriptor)
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stdout or _open_text(1)
    sys.stderr = cast(TextIO, Lossy(sys.stderr or _open_text(2)))
    try:
        yield
    finally:
        for stream in (sys.stdout, before[1]):
            _let_go(stream)
        sys.stdout, sys.stderr = before


def _require_open(descriptor: int) -> None:
    """A closed one is opened on nothing: else the next file, a part maybe, would get its number."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        os.dup2(opened, descriptor)
        os.set_inheritable(descriptor, True)  # workers have the same streams
        if opened != descriptor:
            os.close(opened)


def _open_text(descriptor: int) -> TextIO:
    return os.fdopen(descriptor, "w", closefd=False)


def _let_go(stream: TextIO | None) -> None:
    """Flush; what cannot be written goes to nothing, or the interpreter would end with exit code 120."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno() if stream is not None else nothing)
            os.close(nothing)
