"""The docket: what is told at the end of a shard that nobody can do."""

from dataclasses import replace

import pytest

from batchneuron.errors import BatchNeuronError, SourceUnreadable, WorkerFailed
from batchneuron.planning.plan import Shard
from batchneuron.sources.source import FileId, Slice
from batchneuron.workers.case import Case, name_files, recall_case, tell_lost
from batchneuron.workers.docket import Docket, explain_end
from batchneuron.workers.events import Failure
from batchneuron.workers.pulse import Place
from batchneuron.workers.worker import describe_failure

CRASH = Failure(WorkerFailed.__name__, "a worker died", 75, retryable=True, traceback="", code="worker_crash")


def make_shard(*names):
    return Shard(2, 10, tuple(Slice(FileId(name, 1, "v"), 0, 5, 0, 0) for name in names))


def end_reading(failure):
    docket, shard, place = Docket(), make_shard("a.arrow", "b.arrow"), Place(2, "read", size=10)
    verdict = docket.charge(shard, failure, place)
    while not verdict.hopeless:
        verdict = docket.charge(shard, failure, place)
    return explain_end(shard, verdict, failure)


def test_a_shard_that_kills_its_readers_names_its_files():
    error = end_reading(CRASH)

    assert type(error) is SourceUnreadable
    assert error.exit_code == 65
    assert str(error).startswith("a.arrow, b.arrow: reading rows 10 to 20 has failed 3 times: a worker died")
    assert "input.on_bad_file: skip" in error.hint


def test_an_exception_of_a_reader_is_a_bug_and_a_kill_the_machine_s():
    assert type(end_reading(describe_failure(ValueError("odd")))) is BatchNeuronError
    assert end_reading(replace(CRASH, code="out_of_memory")).exit_code == 75


@pytest.mark.parametrize(("count", "named"), [(1, "0"), (3, "0, 1, 2"), (5, "0, 1, 2 and 2 more")])
def test_of_many_files_some_are_named(count, named):
    assert name_files(make_shard(*map(str, range(count)), "0")) == named


def test_a_replay_knows_what_must_not_be_read_again():
    case = Case(read_deaths=("it died", "it died again"))
    error = {"code": "bad_file", "message": tell_lost(make_shard("a.arrow"), case)}

    recalled = recall_case([error] * 5)

    assert recalled.is_deadly_to_read
    assert tell_lost(make_shard("a.arrow"), recalled) == error["message"]
    assert recall_case([{"code": "bad_file", "message": "a.parquet: torn"}, None]) == Case()
    assert recall_case([]) == Case()
