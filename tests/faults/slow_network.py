"""A network between a job and its bucket that is slow, or swallows what it is given and says nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SLOW_BYTES_PER_S = 1024


@dataclass
class Network:
    """Passes connections on, some of them badly."""

    target: tuple[str, int]
    hangs: frozenset[int]
    """Of the connections in order: those that get no answer, ever."""
    crawls: frozenset[int]
    """Those of a kilobyte a second."""
    is_down: bool = False
    """While it is, every connection ends at once."""
    met: Counter[str] = field(default_factory=Counter)
    _opened: int = 0

    def take(self, ours: socket.socket) -> None:
        """One connection, in a thread of its own."""
        number, self._opened = self._opened, self._opened + 1
        if self.is_down:
            self.met["down"] += 1
            ours.close()
            return
        if number in self.hangs:
            self.met["hang"] += 1
            self._swallow(ours)
            return
        theirs = socket.create_connection(self.target)
        is_slow = number in self.crawls
        self.met["crawl" if is_slow else "pass"] += 1
        back = threading.Thread(target=self._pump, args=(theirs, ours, is_slow), daemon=True)
        back.start()
        self._pump(ours, theirs, is_slow)
        back.join()

    def _swallow(self, ours: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while ours.recv(4096):
                pass

    def _pump(self, source: socket.socket, sink: socket.socket, is_slow: bool) -> None:
        with contextlib.suppress(OSError):
            while (content := source.recv(256 if is_slow else 65536)) and not self.is_down:
                if is_slow:
                    time.sleep(len(content) / SLOW_BYTES_PER_S)
                sink.sendall(content)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def between(url: str, hangs: set[int], crawls: set[int]) -> Iterator[tuple[str, Network]]:
    """The address to use instead, and what the network met."""
    host, _, port = url.removeprefix("http://").partition(":")
    network = Network((host, int(port)), frozenset(hangs), frozenset(crawls))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    ours, _ = server.accept()
                    threading.Thread(target=network.take, args=(ours,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", network
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
