"""A job that dies, stops or fails at its first step, at its second, at its third … until a run gets through.

`python steps.py FOLDER ACTION local|s3 [STRIDE]` does it with one action (`failpoints.py`), checks what each
fault leaves and what the next run makes of it, and prints the steps, one a line. s3 needs AWS_ENDPOINT_URL.
A stride of 5 takes the first step, the sixth, the eleventh.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import forks
from tests.faults.failpoints import KILL, STOP, Failpoints
from tests.faults.forks import Ended, Files
from tests.faults.harness import quickstart_spec
from tests.faults.invariants import (
    Truth,
    read_truth,
    require_finished,
    require_little_done_again,
    require_unfinished,
)
from tests.faults.places import Bucket, Disk, Place, open_bucket

SEED = 7
ROWS = 90
JOB = (f"input.limit={ROWS}", "output.shard_rows=30", "backend.workers=0", "shapes.sequence_length=[64, 128]")
MAY_END_WITH = {0, 75, 77, 78}
"""Whatever a disk does: done, again later, not allowed, not on this machine."""


@dataclass(slots=True)
class Loop:
    """One action, at every step."""

    place: Place
    action: str
    stride: int = 1
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))

    def run(self) -> None:
        ended = self.end("calm", 0)
        assert ended.code == 0, ended
        truth, n = read_truth(self.place.look("calm")), 1 - self.stride
        while ended.step or n < 1:
            n += self.stride
            ended = (self.freeze if self.action == STOP else self.strike)(f"{n:03}", n, truth)
            print(f"{n}: {ended.step or 'through'}: {ended.code}", flush=True)  # noqa: T201  # they are counted

    def strike(self, name: str, n: int, truth: Truth) -> Ended:
        """It dies, or is told of an error; the next may die too; the last one completes."""
        first = self.end(name, n)
        output = self.place.look(name)
        is_tidy = not first.step.startswith("unlink")  # what cannot be removed stays for the next run
        before = require_unfinished(output, first.code, has_tidied=is_tidy)
        deaths = int(first.code < 0)
        if self.action != KILL:
            assert first.code in MAY_END_WITH, first
        elif first.step:
            second = self.end(name, self.dice.randint(1, 60))
            before = require_unfinished(self.place.look(name), second.code)
            deaths += int(second.code < 0)
        last = self.end(name, 0)
        assert last.code == 0, last
        require_finished(self.place.look(name), truth, before)
        self.place.require_tidy()
        require_little_done_again(self.files(name).begun, truth, lost=max(1, deaths))
        return first

    def freeze(self, name: str, n: int, truth: Truth) -> Ended:
        """It stands still for longer than its lease lives; another does the rest; it goes on."""
        files = self.files(name)
        frozen = forks.start(self.spec(name), files, self.failpoints(files, n))
        if not forks.wait_until_stopped(frozen):
            require_finished(self.place.look(name), truth)
            return Ended(0, "", "")
        step = files.step.read_text()
        other = self.end(name, 0)
        assert other.code == 0, (step, other)
        os.kill(frozen, signal.SIGCONT)
        woken = forks.wait(frozen, files)
        assert woken.code == 0, (step, woken)
        require_finished(self.place.look(name), truth)
        return Ended(0, step, "")

    def end(self, name: str, n: int) -> Ended:
        """One run, with its failpoint at the n-th step; 0: none."""
        files = self.files(name)
        return forks.wait(forks.start(self.spec(name), files, self.failpoints(files, n)), files)

    def failpoints(self, files: Files, n: int) -> Callable[[], None]:
        def prepare() -> None:
            self.place.watch(Failpoints("*", n, self.action, files.step))

        return prepare

    def spec(self, name: str):
        return quickstart_spec(self.place.folder / name, *JOB, f"output.path='{self.place.locate(name)}'")

    def files(self, name: str) -> Files:
        return Files(self.place.folder / name)


if __name__ == "__main__":
    if sys.argv[3] == "s3":
        open_bucket()
    kind = {"local": Disk, "s3": Bucket}[sys.argv[3]]
    Loop(kind(Path(sys.argv[1])), sys.argv[2], int((sys.argv[4:] or ["1"])[0])).run()
