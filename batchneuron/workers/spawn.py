"""Spawn: processes that begin anew, with nothing of the program that asked for a job.

multiprocess has each process import the program's main module first, for functions that are defined there.
Workers need none of it. So a script may run a job outside of `if __name__ == "__main__":`, and what it has
imported is not imported, and held in memory, once for each worker.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import ModuleType
from typing import Any

_starting = Lock()  # the main module is the whole program's, whichever of its threads runs a job


def start(process: Any) -> None:
    """Start a process of a spawn context; what it is given must not come from the main module."""
    with _starting, hide_main():
        process.start()


@contextmanager
def hide_main() -> Iterator[None]:
    """An empty main module in place of the program's: multiprocess finds nothing to import."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program
