"""Spawn: processes that begin anew, with nothing of the program that asked for a job.

multiprocess has each process import the program's main module first, for functions that are defined there.
Workers need none of it. So a script may run a job outside of `if __name__ == "__main__":`, and what it has
imported is not imported, and held in memory, once for each worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from multiprocess import spawn

_MAIN = "init_main_"
_starting = Lock()  # multiprocess is the whole program's, whichever of its threads runs a job


def start(process: Any) -> None:
    """Start a process of a spawn context; what it is given must not come from the main module."""
    with _starting, hide_main():
        process.start()


@contextmanager
def hide_main() -> Iterator[None]:
    """What multiprocess tells a new process says nothing of the program's main module."""
    tell = spawn.get_preparation_data

    def tell_less(name: str) -> dict[str, Any]:
        return {key: value for key, value in tell(name).items() if not key.startswith(_MAIN)}

    spawn.get_preparation_data = tell_less
    try:
        yield
    finally:
        spawn.get_preparation_data = tell
