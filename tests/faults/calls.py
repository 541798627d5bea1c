"""A job that one system call after the other kills, or tells of an error: each that touches its output.

`python calls.py FOLDER kill NAMES` and `python calls.py FOLDER ERRNO NAMES` print a line for each fault; what
has to come out is asserted here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchneuron.spec.sections import JobSpec
from tests.faults import forks, tracing
from tests.faults.forks import Ended, Files
from tests.faults.harness import quickstart_spec
from tests.faults.invariants import Truth, has_manifest, read_truth, require_finished, require_unfinished
from tests.faults.steps import JOB as WHOLE
from tests.faults.tracing import Call, Tampered

JOB = (*WHOLE, "input.limit=60")  # two parts
CODES = {"ENOSPC": 75, "EDQUOT": 75, "EIO": 78, "EACCES": 77, "EROFS": 78, "EMFILE": 78, "EPERM": 77}
"""The command's exit code, where the error is not of an advisory file."""
TOLD = {
    "ENOSPC": "the disk is full",
    "EDQUOT": "the disk is full",
    "EIO": "I/O error",
    "EACCES": "Permission denied",
    "EROFS": "Read-only file system",
    "EMFILE": "Too many open files",
    "EPERM": "Operation not permitted",
}


@dataclass(frozen=True, slots=True)
class Calls:
    """One kind of call, one fault."""

    folder: Path
    names: str
    """`link,linkat`"""

    def run(self, action: str) -> None:
        calm = self.end("calm")
        assert calm.code == 0, calm
        truth = read_truth(self.folder / "calm")
        for line in self.kill_all(truth) if action == "kill" else self.fail_all(action, truth):
            print(line, flush=True)  # noqa: T201  # they are counted

    def kill_all(self, truth: Truth) -> Iterator[str]:
        """Dead at each call of the first thread that touches the output, one by one."""
        for number, call in enumerate(self.list_calls(), start=1):
            name = f"{number:03}"
            tampered = self.tamper(name, f"{call.name}:{tracing.KILL}:when={call.n}")
            self.resume(name, tampered.ended, truth)
            yield f"{name}: {tampered.ended.code}"

    def fail_all(self, error: str, truth: Truth) -> Iterator[str]:
        """An error at each call of the first thread that touches the output, one by one."""
        for number, call in enumerate(self.list_calls(), start=1):
            name = f"{number:03}"
            tampered = self.tamper(name, f"{call.name}:error={error}:when={call.n}")
            self.require_told(tampered, error)
            self.resume(name, tampered.ended, truth)
            yield f"{name}: {tampered.ended.code}: {(*tampered.injected, 'through')[0]}"

    def list_calls(self) -> list[Call]:
        """Of a run without faults; closing a file that was only read never fails."""
        within = ".inprogress" if self.names == "close" else "/listed/"
        return tracing.list_calls(self.spec("listed"), self.files("listed"), self.names, within)

    def require_told(self, tampered: Tampered, error: str) -> None:
        """The code and the words of this error, or done all the same."""
        ended = tampered.ended
        assert ended.code in (0, CODES[error]), (ended, tampered.injected)
        told = "error closing file" if self.names == "close" else TOLD[error]  # pyarrow tells no errno there
        assert ended.code == 0 or told in ended.told or TOLD[error] in ended.told, ended

    def resume(self, name: str, ended: Ended, truth: Truth) -> None:
        output = self.folder / name
        before = require_unfinished(output, ended.code)
        assert ended.code < 0 or (ended.code == 0) <= has_manifest(output)
        last = self.end(name)
        assert last.code == 0, last
        require_finished(output, truth, before)

    def tamper(self, name: str, *injections: str) -> Tampered:
        return tracing.tamper(self.spec(name), self.files(name), *injections)

    def end(self, name: str) -> Ended:
        return forks.wait(forks.start(self.spec(name), self.files(name), lambda: None), self.files(name))

    def spec(self, name: str) -> JobSpec:
        return quickstart_spec(self.folder / name, *JOB)

    def files(self, name: str) -> Files:
        return Files(self.folder / name)


if __name__ == "__main__":
    Calls(Path(sys.argv[1]), sys.argv[3]).run(sys.argv[2])
