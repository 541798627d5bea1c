"""A job killed at its first step on disk, at its second, at its third … until a run gets through.

A program of its own, because it forks: each run is a child of a process that has imported everything
and started no thread, and takes a twentieth of a second. `python steps.py FOLDER` does it, checks what
each death leaves and what the next run makes of it, and prints the steps.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchneuron.run import run_job
from tests.faults import light  # noqa: F401  # no torch, no tokenizer
from tests.faults.harness import quickstart_spec, read_bits, require_readable, require_whole

SEED = 7
ROWS = 90
JOB = (f"input.limit={ROWS}", "output.shard_rows=30", "backend.workers=0", "shapes.sequence_length=[64, 128]")


class Deadline:
    """Counts the steps of this process, and kills it at one of them."""

    def __init__(self, last: int | None, log: Path) -> None:
        self._left = last
        self._log = log

    def watch(self, owner: Any, name: str) -> None:
        """Make each call of a function two steps: just before it and just after."""
        function = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            self._step(f"before {name}")
            result = function(*arguments, **named)
            self._step(f"after {name}")
            return result

        setattr(owner, name, watched)

    def watch_write(self, owner: Any, name: str, find_path: Callable[..., Path]) -> None:
        """As `watch`, with a third step in the middle: half of the file is on disk."""
        function = getattr(owner, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            result = function(*arguments, **named)
            path = find_path(*arguments)
            self._step(f"half of {name}", lambda: os.truncate(path, path.stat().st_size // 2))
            self._step(f"after {name}")
            return result

        setattr(owner, name, watched)

    def _step(self, name: str, before_death: Callable[[], None] = lambda: None) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left == 0:
            self._left = None
            before_death()
            self._log.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)


def run_until(output: Path, last: int | None) -> str | None:
    """Run the job in a child that dies at that step: the step's name, None when it got through."""
    log = output.with_suffix(".step")
    log.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            deadline = Deadline(last, log)
            for name in ("link", "fsync", "unlink", "mkdir"):
                deadline.watch(os, name)
            deadline.watch(Path, "replace")
            deadline.watch_write(Path, "write_bytes", lambda path, _: path)
            deadline.watch_write(pq, "write_table", lambda _, path: path)
            run_job(quickstart_spec(output, *JOB))
        except BaseException:  # noqa: BLE001  # a child must not return into its parent's loop
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return log.read_text()
    assert os.WEXITSTATUS(status) == 0, f"the run that dies at step {last} failed"
    return None


def main(folder: Path) -> None:
    random_ = random.Random(SEED)
    assert run_until(folder / "calm", None) is None
    undisturbed = read_bits(folder / "calm")
    step, name = 0, ""
    while name is not None:
        step += 1
        output = folder / f"{step:03}"
        name = run_until(output, step)
        if (output / "data").is_dir():
            require_readable(output)
        second = run_until(output, random_.randint(1, 60)) if name is not None else None
        if second is not None:
            require_readable(output)
        assert run_until(output, None) is None
        require_whole(output, ROWS)
        assert read_bits(output) == undisturbed
        print(f"{step}: {name}; then {second}", flush=True)  # noqa: T201  # what the test shows when it fails


if __name__ == "__main__":
    main(Path(sys.argv[1]))
