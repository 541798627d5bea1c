"""Every error a user can meet, in one tree.

    BatchNeuronError
    ├── SpecError               the file is wrong; holds all problems            exit 2
    ├── DataError               the input is not what the spec says              exit 65
    │   ├── SourceNotFound      no such file, folder, glob or dataset
    │   ├── SourceUnreadable    a file is torn, truncated or of another format
    │   ├── SourceForbidden     no credentials for the input, or refused ones    exit 77
    │   ├── SourceUnavailable   where the input lies, nothing answers            exit 75
    │   ├── SourceChanged       a file differs from the one that was planned
    │   ├── ColumnMissing       a named column is not there, or of a wrong type
    │   └── TooManyRejected     the error budget is spent
    ├── OutputConflict          the run folder belongs to another run            exit 73
    ├── OutputUnwritable        disk full, read-only, no permission              exit 75
    │   ├── OutputForbidden     no credentials for the bucket, or refused ones   exit 77
    │   └── OutputUnfit         no such bucket; it cannot create exclusively     exit 78
    ├── ModelError              the model cannot be had, or is refused           exit 78
    │   ├── ModelForbidden      gated or private, and no valid token             exit 77
    │   └── ModelUnavailable    the hub gives no answer just now                 exit 75
    ├── BackendError            the machine cannot run what was asked            exit 78
    │   ├── CompileError        the compiler failed; its log is told
    │   ├── ArtifactMismatch    an artifact is not for this driver or chip
    │   ├── DeviceMemoryFull    the program does not fit the device
    │   ├── ParityError         the program disagrees with the reference
    │   └── ProgramError        the program gave tensors of a wrong shape        exit 70
    ├── WorkerFailed            what a worker reported, or how it died           exit 75
    │   ├── DeviceFault         a call failed; a fresh worker may do it
    │   ├── DiskFailed          an I/O error of the disk that is written to      exit 78
    │   └── CoreLost            the core is broken: use another
    ├── Incomplete              some shards are missing: run it again            exit 75
    └── Interrupted             Ctrl-C or SIGTERM, drained                       exit 130

The policy is data: `exit_code` and `retryable` are class attributes, so whoever handles an error
looks them up and never tests types. All arguments go to `Exception.__init__`, which is what makes
an error survive pickling (cpython issue 79492).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class BatchNeuronError(Exception):
    """A failure told in three parts: what happened, where, and what to do next."""

    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False
    retires_core: ClassVar[bool] = False

    def __init__(self, what: str, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.hint:
            lines.append(f"  → {self.hint}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a spec: where it stands and what would be right."""

    where: str
    """`file:line`, or the flag it came from."""
    key: str
    """Dotted path of the key, `output.path`."""
    what: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.key}: {self.what}" if self.key else f"{self.where}: {self.what}"
        return f"{text} ({self.hint})" if self.hint else text


class SpecError(BatchNeuronError):
    """All the problems of one spec at once."""

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        count = len(problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the spec")
        self.args = (problems,)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join([f"{self.what}:", *(f"  {problem}" for problem in self.problems)])


class DataError(BatchNeuronError):
    """The input is not what the spec says."""

    exit_code = 65


class SourceNotFound(DataError):
    """No such file, folder, glob or dataset."""


class SourceUnreadable(DataError):
    """A file is torn, truncated, or not of the format it was taken for."""

    rows: int | None = None
    """Rows that were told apart before the damage, where whoever raises it has counted them."""


class SourceForbidden(DataError):
    """The store refuses the input to these credentials, or there are none."""

    exit_code = 77


class SourceUnavailable(DataError):
    """Where the input lies, nothing answers just now; nothing is known against the file."""

    exit_code = 75
    retryable = True


class SourceChanged(DataError):
    """An input file differs from the one the plan was made for."""


class ColumnMissing(DataError):
    """A column that the spec names is not in the input, or has an unusable type."""


class TooManyRejected(DataError):
    """More rows were rejected than `errors.max_rejected` allows."""


class OutputConflict(BatchNeuronError):
    """The run folder holds another run; nothing was written."""

    exit_code = 73


class OutputUnwritable(BatchNeuronError):
    """The run folder cannot be written: full, read-only or forbidden."""

    exit_code = 75


class OutputForbidden(OutputUnwritable):
    """The store refuses these credentials, or there are none."""

    exit_code = 77


class OutputUnfit(OutputUnwritable):
    """The store is not there, or can never hold a run folder."""

    exit_code = 78


class ModelError(BatchNeuronError):
    """The model cannot be found, read, or is refused for safety."""

    exit_code = 78


class ModelForbidden(ModelError):
    """The hub refuses the model to this user."""

    exit_code = 77


class ModelUnavailable(ModelError):
    """The hub is busy, broken or not reached just now; nothing is known against the model."""

    exit_code = 75
    retryable = True


class BackendError(BatchNeuronError):
    """This machine cannot run the program: a missing library, driver or device."""

    exit_code = 78


class CompileError(BackendError):
    """The compiler failed, or was killed; the message ends with the last lines of its log."""


class ArtifactMismatch(BackendError):
    """An artifact was compiled for another runtime, driver or chip."""


class DeviceMemoryFull(BackendError):
    """The program, or a batch of it, does not fit the device's or the host's memory."""


class ParityError(BackendError):
    """The compiled program disagrees with the reference by more than its precision allows."""


class ProgramError(BackendError):
    """A program was fed, or gave back, tensors of another shape or type than it was compiled for."""

    exit_code = 70


class WorkerFailed(BatchNeuronError):
    """A worker reported a failure that is not its input's fault, or died; the shard can be redone."""

    exit_code = 75
    retryable = True


class DeviceFault(WorkerFailed):
    """The device failed or timed out in one call; a fresh worker on the same core may succeed."""


class DiskFailed(WorkerFailed):
    """An I/O error while writing: the file is lost and written again; a disk that goes on so is broken."""

    exit_code = 78


class CoreLost(WorkerFailed):
    """The core's hardware is broken: its worker is not started again, others take its shards."""

    retires_core = True


class Incomplete(BatchNeuronError):
    """The run ended with shards missing; the same command takes it up again."""

    exit_code = 75
    retryable = True


class Interrupted(BatchNeuronError):
    """The user asked to stop; what was committed stays."""

    exit_code = 130
