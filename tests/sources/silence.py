"""Places that give no answer for a while, and a clock by which waiting for them takes no time."""

from __future__ import annotations

import errno
import io
from dataclasses import dataclass, field

import pyarrow as pa

from batchneuron.sources.patience import Patience


@dataclass
class Clock:
    """Time that passes only while somebody rests."""

    now_s: float = 0.0
    rests: list[float] = field(default_factory=list)

    def rest(self, pause_s: float) -> None:
        self.rests.append(pause_s)
        self.now_s += pause_s

    @property
    def patience(self) -> Patience:
        return Patience(600, lambda: self.now_s, self.rest)


@dataclass
class Silence:
    """Stands in for `open_file`: some reads pass, those that follow fail, and then all is well again."""

    passes: int
    failures: float

    def __call__(self, uri: str) -> pa.PythonFile:
        return pa.PythonFile(_File(uri, self), mode="r")

    def meet(self) -> None:
        if self.passes:
            self.passes -= 1
        elif self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, "Input/output error")


class _File(io.FileIO):
    def __init__(self, path: str, silence: Silence) -> None:
        super().__init__(path)
        self._silence = silence

    def read(self, size: int = -1) -> bytes:
        self._silence.meet()
        return super().read(size)
