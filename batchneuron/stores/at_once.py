"""At once: one call for each of many things, several at a time, and what they give in the things' order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

AT_ONCE = 16
"""Half of the connections that the S3 client keeps: a lease's thread may ask beside the main one."""
_AHEAD = 4 * AT_ONCE
_T = TypeVar("_T")
_R = TypeVar("_R")


def map_at_once(call: Callable[[_T], _R], things: Sequence[_T]) -> Iterator[_R]:
    """What the call gives for each thing, in order; what it raises is raised in its place.

    The threads are daemons, which those of an executor are not: a process that is told to stop at once does
    not wait for a bucket that hangs.
    """
    if len(things) < 2:
        yield from map(call, things)
        return
    todo: SimpleQueue[tuple[_T, Future[_R]] | None] = SimpleQueue()
    threads = [
        threading.Thread(target=_work, args=(call, todo), daemon=True, name="at-once")
        for _ in range(min(AT_ONCE, len(things)))
    ]
    for thread in threads:
        thread.start()
    waiting: deque[Future[_R]] = deque()
    try:
        for thing in things:
            waiting.append(Future())
            todo.put((thing, waiting[-1]))
            if len(waiting) == _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in threads:
            todo.put(None)
        for thread in threads:
            thread.join()


def _work(call: Callable[[_T], _R], todo: SimpleQueue[tuple[_T, Future[_R]] | None]) -> None:
    """A thread: whatever the call raises is its caller's."""
    while (job := todo.get()) is not None:
        thing, future = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = call(thing)
        except BaseException as error:  # noqa: BLE001  # handed over, not caught
            future.set_exception(error)
        else:
            future.set_result(result)
