"""The docket: the shards over which workers have died, and the case of each."""

from __future__ import annotations

from batchneuron.errors import BatchNeuronError, SourceUnreadable, TooManyRejected
from batchneuron.planning.plan import Shard
from batchneuron.workers.case import NO_CASE, Assignment, Case, name_files
from batchneuron.workers.events import Failure, RowIsolated
from batchneuron.workers.isolate import MAX_ATTEMPTS, Death, Verdict, judge
from batchneuron.workers.pulse import Place
from batchneuron.workers.rebuild import rebuild_error

_WHAT_TO_DO = "look at these rows, and at what the worker wrote before it died; leave them out, or mend them"

_UNREADABLE = (
    "write it again with other tools, or leave it out; input.on_bad_file: skip rejects these rows and goes on"
)


class Docket:
    """Knows shards and deaths; knows nothing of processes, so that any engine can keep one."""

    def __init__(self) -> None:
        self._cases: dict[int, Case] = {}
        self._alone: set[int] = set()

    def assign(self, shard: Shard) -> Assignment:
        """The shard with what is known of it."""
        return Assignment(shard, self._cases.get(shard.index, NO_CASE))

    def is_accused(self, shard: Shard) -> bool:
        """Whether a row of it may kill workers: it is done alone, so that the next death is its own."""
        return shard.index in self._alone

    def is_on_trial(self, shard: Shard) -> bool:
        """Whether rows of it are being tried, so that a death says nothing against the core."""
        return self._cases.get(shard.index, NO_CASE).suspects is not None

    def close(self, index: int) -> None:
        """The shard is done."""
        self._cases.pop(index, None)
        self._alone.discard(index)

    def charge(self, shard: Shard, failure: Failure, place: Place) -> Verdict:
        """Lay a death or a failure at a shard's door; says what follows."""
        case = self._cases.get(shard.index, NO_CASE)
        verdict = judge(case, Death(place, failure.code, _first_line(failure.message)))
        self._cases[shard.index] = verdict.case
        if failure.code:
            self._alone.add(shard.index)
        return verdict


def tell_found(shard: Shard, verdict: Verdict) -> RowIsolated | None:
    """The event of a row that was found; None: none was."""
    found = verdict.found
    if found is None:
        return None
    return RowIsolated(shard.index, shard.row_lo + found.row, found.code, found.message)


def explain_end(shard: Shard, verdict: Verdict, failure: Failure) -> BatchNeuronError:
    """The error that stops the job: of its last failure, of a spent error budget, or of files that kill."""
    where = f"shard {shard.index} (rows {shard.row_lo:,} to {shard.row_hi:,})"
    if verdict.is_datas_fault and not failure.traceback:
        return TooManyRejected(f"{verdict.hopeless}: {failure.message}", where, _WHAT_TO_DO)
    if verdict.is_files_fault and not failure.traceback:
        what = f"reading rows {shard.row_lo:,} to {shard.row_hi:,} has failed {MAX_ATTEMPTS} times"
        return SourceUnreadable(f"{what}: {_first_line(failure.message)}", name_files(shard), _UNREADABLE)
    return rebuild_error(failure, f"{where}: {verdict.hopeless}")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
