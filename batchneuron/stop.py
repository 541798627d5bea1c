"""Ctrl-C and SIGTERM as a question that can be asked: once to drain, twice to stop at once.

SIGTERM comes from a scheduler, which sends SIGKILL some time after it: what is not done by then had better
be given up in time, for it is lost either way.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

GRACE_S = 25.0
"""ECS, and AWS Batch with it, kills 30 s after SIGTERM (ECS: `stopTimeout`)."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


class StopSignals:
    """While it is entered, the first signal is only remembered; the second raises KeyboardInterrupt.

    So does the end of the grace, which begins with SIGTERM. Ctrl-C has none: whoever sits there can press it
    again.
    """

    def __init__(self, say: Callable[[str], None], grace_s: float = GRACE_S) -> None:
        self._say = say
        self._grace_s = grace_s
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
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        if number == signal.SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, max(self._grace_s, 1e-3))
            self._say(f"finishing what can be finished in {self._grace_s:g} s; once more to stop at once")
        else:
            self._say("finishing the shards in hand; once more to stop at once")
