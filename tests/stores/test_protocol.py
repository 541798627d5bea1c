"""The commit protocol, in every order of its steps: no row lost, none twice, no manifest that is not true.

The package's own `run_job` over a model bucket (`protocol.py`); all interleavings of its requests, each of
them lost on the way there or back any number of times, and crashes (`explore.py`). Each mutant is a protocol
that looks as good, and must be caught.
"""

from contextlib import nullcontext
from unittest import mock

import pytest

from batchneuron.ledger import leftover
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import LEDGER, LEFT, MANIFEST
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.stores.s3 import S3Store
from tests.stores import protocol
from tests.stores.explore import Explorer, Violation
from tests.stores.protocol import make_program


@pytest.fixture(autouse=True)
def simple_world():
    with protocol.simple_world():
        yield


def make_explorer(programs, crashes, start=None, family="r", *, overwrites=True):
    """`overwrites`: whether any of the programs does."""
    check_step = protocol.check_parts if overwrites else protocol.check_nothing_changes
    checks = protocol.check_ledger, check_step, protocol.check_acknowledged
    is_settled = protocol.is_plan if overwrites else protocol.is_there
    return Explorer(programs, crashes, *checks, is_settled=is_settled, start=start or {}, family=family)


def finish_first(job="x"):
    """A bucket with a run that is complete."""
    first = make_explorer([make_program(job)], 0, family="first")
    return first.objects(first.walk(seed=0))


QUICK = ("two runners", "a runner, and one that overwrites it")


def explore(name, crashes, store=S3Store):
    """All states of a scenario, every end of them judged; how many."""
    jobs, before = SCENARIOS[name]
    programs = [make_program(job.rstrip("!"), overwrite=job.endswith("!"), store=store) for job in jobs]
    start = finish_first(before) if before else None
    explorer = make_explorer(programs, crashes, start, overwrites="!" in "".join(jobs))
    states, ends = explorer.explore()
    assert ends
    for state in ends:
        protocol.check_end(explorer.objects(state), tuple(place.outcome for place in state[1]))
    return states


SCENARIOS = {
    "two runners": (["x", "x"], None),
    "a runner, and one that overwrites it": (["x", "y!"], None),
    "two that overwrite a finished run": (["y!", "z!"], "x"),
    "two that do a finished run once more": (["x!", "x!"], "x"),
}


def tell(capsys, line):
    with capsys.disabled():
        print(f"\n{line}", end="", flush=True)  # noqa: T201  # what was proved is worth a line


@pytest.mark.case(25, 28, 30)
@pytest.mark.parametrize(
    "name",
    [*QUICK, *(pytest.param(name, marks=pytest.mark.faults) for name in SCENARIOS if name not in QUICK)],
)
def test_every_order(name, capsys):
    states = explore(name, 0)

    tell(capsys, f"{name}: {states:,} states, no violation")
    assert states > 1000


def explore_gc():
    """Beside one that overwrites a finished run, with another plan."""
    programs = [make_program("y", 3, overwrite=True), protocol.sweep]
    explorer = make_explorer(programs, 0, finish_first())
    states, ends = explorer.explore()
    for state in ends:
        protocol.check_end(explorer.objects(state), tuple(place.outcome for place in state[1]))
    return states


@pytest.mark.case(28)
def test_every_order_of_gc_beside_one_that_overwrites(capsys):
    states = explore_gc()

    tell(capsys, f"gc beside one that overwrites: {states:,} states, no violation")
    assert states > 100


def is_old_plan(record, entry):
    return entry.name.startswith("plan-") and entry.name != record.plan


def test_gc_that_takes_plans_is_caught(monkeypatch):
    monkeypatch.setattr(leftover, "LEFT", (*LEFT, (LEDGER, "plan", is_old_plan)))

    with pytest.raises(Violation, match="the plan of the run is gone"):
        explore_gc()


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.case(25, 30)
def test_every_order_with_a_crash(capsys):
    """Of two crashes, or beside one that overwrites, there are too many states for this machine's memory."""
    states = explore("two runners", 1)

    tell(capsys, f"two runners, a crash: {states:,} states, no violation")


@pytest.mark.faults
def test_ways_of_four_runners_drawn_by_chance(capsys):
    programs = [make_program("x", 3), make_program("x", 3), make_program("y", 3, overwrite=True)]
    explorer = make_explorer([*programs, make_program("y", 3)], 4)
    for seed in range(200):
        end = explorer.walk(seed)
        protocol.check_end(explorer.objects(end), tuple(place.outcome for place in end[1]))
    tell(capsys, "four runners, three parts, 4 crashes: seeds 0 to 199, no violation")


# Mutants


class LooksAndThenPuts(S3Store):
    """HEAD, and if nothing is there, PUT."""

    def _put_new(self, name, open_body, sha256, tags):
        if self._head(name) is not None:
            return False
        metadata = {**tags, "attempt": tags.get("attempt", "")}
        with open_body() as body:
            content = body.read()
        self.requests.send(
            lambda client: client.put_object(**self._place(name), Body=content, Metadata=metadata)
        )
        return True


class MakesRoomFirst(S3Store):
    """Removes what stands under the name, and then creates it: unlink before link."""

    def _put_new(self, name, open_body, sha256, tags):
        self.delete(name)
        return S3Store._put_new(self, name, open_body, sha256, tags)


class TakesAllForItsOwn(S3Store):
    """Whatever stands under the name after a 412 is taken for its own attempt, whose answer was lost."""

    def _put_new(self, name, open_body, sha256, tags):
        S3Store._put_new(self, name, open_body, sha256, tags)
        return True


def write_manifest_anyway(self, record, manifest):
    """Without looking whether the run was overwritten, over whatever is there."""
    self.store.replace_bytes(MANIFEST, protocol.run_folder._dump(manifest))


NO_GENERATION = mock.patch.object(Fingerprint, "run8", lambda self, generation: self.digest[:8])
ANYWAY = mock.patch.object(RunFolder, "write_manifest", write_manifest_anyway)
TOO_EARLY = mock.patch.object(leftover, "_is_complete", lambda folder, record: True)


@pytest.mark.parametrize(
    "mutant, name, store, told",
    [
        (nullcontext(), "two runners", LooksAndThenPuts, "was replaced"),
        (nullcontext(), "two runners", MakesRoomFirst, "was removed"),
        (
            nullcontext(),
            "two runners",
            TakesAllForItsOwn,
            "is not what the manifest says|manifest.json was replaced",
        ),
        (NO_GENERATION, "two that do a finished run once more", S3Store, "of another run than the manifest"),
        (ANYWAY, "two that overwrite a finished run", S3Store, "which is not there|no newer run is complete"),
        (TOO_EARLY, "two that overwrite a finished run", S3Store, "no newer run is complete|is not there"),
    ],
    ids=["look then put", "unlink then link", "all mine", "no generation", "manifest anyway", "gc too early"],
)
def test_a_protocol_that_looks_as_good_is_caught(mutant, name, store, told):
    with mutant, pytest.raises(Violation, match=told):
        explore(name, 0, store)
