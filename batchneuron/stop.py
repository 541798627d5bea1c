"""Ctrl-C and SIGTERM as a question that can be asked: once to drain, twice to stop at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While it is entered, the first signal is only remembered; the second raises KeyboardInterrupt."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, signal.Handlers | int | None] = {}

    def is_stopped(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)  # type: ignore[assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        self._say("finishing the shards in hand; once more to stop at once")
