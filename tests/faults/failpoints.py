"""Failpoints by name: the n-th time that a run comes by one, it dies, stops, or is told of an error.

They stand around functions of the product and of Python; nothing in the product knows of them. Each
function is two points, before and after; one that writes a file is a third, with half of it written.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from botocore.httpsession import URLLib3Session

from batchneuron import run
from batchneuron.ledger.run_folder import RunFolder

KILL, STOP = "kill", "stop"
_SIGNALS = {KILL: signal.SIGKILL, STOP: signal.SIGSTOP}


@dataclass(slots=True)
class Failpoints:
    """`step:n:action`: counts the points that this process passes, and acts at the n-th."""

    step: str
    """Its name; `*` for any."""
    n: int
    """From 1; 0: never."""
    action: str
    """kill, stop, or the name of an errno."""
    log: Path
    """Told the name of the point before it acts."""
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def is_error(self) -> bool:
        return self.action not in _SIGNALS

    def watch(self, owner: Any, name: str, step: str, *, is_disk: bool = False) -> None:
        """Make each call of a function two points; an error is given by the disk alone, and before."""
        function = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            if is_disk or not self.is_error:
                self.pass_by(f"{step}: before {name}")
            result = function(*arguments, **named)
            if not self.is_error:
                self.pass_by(f"{step}: after {name}")
            return result

        setattr(owner, name, watched)

    def watch_write(self, owner: Any, name: str, step: str, find_path: Callable[..., Path]) -> None:
        """As `watch`, with a point in the middle: half of the file is on disk."""
        function = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            path = find_path(*arguments)
            self.pass_by(f"{step}: half of {name}", lambda: os.truncate(path, path.stat().st_size // 2))
            return result

        setattr(owner, name, watched)
        self.watch(owner, name, step, is_disk=True)

    def pass_by(self, name: str, at_last: Callable[[], object] = lambda: None) -> None:
        """One point; at the n-th there is no way on, or one with an error."""
        if self.step not in ("*", name.partition(":")[0]) or next(self._count) != self.n:
            return
        if self.action != STOP:  # what goes on must find what it has written
            at_last()
        self.log.write_text(name)
        if self.action in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[self.action])
        else:
            number = getattr(errno, self.action)
            raise OSError(number, os.strerror(number))

    def watch_ledger(self) -> None:
        """The steps of a run that any store has."""
        for name, step in (
            *(("read_run", "open"), ("create_run", "open"), ("_write_plan", "plan")),
            *(("write_progress", "progress"), ("write_lease", "lease"), ("write_manifest", "manifest")),
        ):
            self.watch(RunFolder, name, step)
        self.watch(run._Ledger, "record", "ack")
        self.watch(hashlib, "file_digest", "hash")
        self.watch_write(pq, "write_table", "write", lambda _, path: path)

    def watch_disk(self) -> None:
        """What a folder on a disk is made with."""
        for name in ("link", "fsync", "unlink", "mkdir"):
            self.watch(os, name, name, is_disk=True)
        self.watch(Path, "replace", "replace", is_disk=True)
        self.watch_write(Path, "write_bytes", "write", lambda path, _: path)

    def watch_requests(self) -> None:
        """What a bucket is sent: before, S3 never hears of it; after, it has done it and nobody knows."""
        send = URLLib3Session.send

        def watched(session: URLLib3Session, request: Any) -> Any:
            name = f"{request.method} {urlsplit(request.url).path}"
            is_watched = not self.is_error and "probe" not in name  # the race before a run has eight threads
            if is_watched:
                self.pass_by(f"{request.method}: before {name}")
            response = send(session, request)
            if is_watched:
                self.pass_by(f"{request.method}: after {name}")
            return response

        URLLib3Session.send = watched
