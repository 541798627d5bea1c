"""Waiting: the output says whether it is done, Batch whether anyone still works; answers made by hand."""

import itertools

import pytest

from batchneuron.aws.clients import Aws
from batchneuron.aws.render import render_news
from batchneuron.aws.wait import Pause, wait_for_job
from batchneuron.errors import BackendError, DataError, Incomplete, SpecError
from batchneuron.ledger.finish import finish_run
from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_record import Lease
from batchneuron.stores.local import LocalStore
from tests.ledger.parts import FINGERPRINT, PLAN, commit

JOB = "5f1c"


class Batch:
    """Answers in order, the last one for ever; and the children of the array."""

    def __init__(self, *states, children=()):
        self.states = itertools.chain(states, itertools.repeat(states[-1]))
        self.children = {f"{JOB}:{number}": child for number, child in enumerate(children)}

    def describe_jobs(self, jobs):
        if jobs != [JOB]:
            return {"jobs": [self.children[each] for each in jobs]}
        state = next(self.states)
        array = {"size": 2, "statusSummary": {state: 2}} if self.children else {}
        return {"jobs": [{"jobId": JOB, "status": state, "arrayProperties": array}]}

    def list_jobs(self, arrayJobId, jobStatus):
        assert (arrayJobId, jobStatus) == (JOB, "FAILED")
        return {"jobSummaryList": [{"jobId": key} for key in self.children]}


def describe(index, exit_code=None, reason="Essential container in task exited"):
    container = {"reason": reason, "logStreamName": f"log/{index}"} if exit_code is not None else {}
    if exit_code is not None:
        container["exitCode"] = exit_code
    return {
        "status": "FAILED",
        "statusReason": reason,
        "arrayProperties": {"index": index},
        "container": container,
    }


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(LocalStore(tmp_path / "out"))
    folder.freeze(PLAN, b"{}")
    return folder


def wait(folder, batch, *steps):
    """Wait, with something happening in each pause; what was told, and how it ended."""
    told, todo = [], iter(steps)
    pause = Pause(1.0, lambda _: next(todo, lambda: None)())
    aws = Aws("us-east-1", lambda _: batch)
    try:
        return told, wait_for_job(
            aws, JOB, folder.store.location, lambda news: told.append(render_news(news)), pause
        )
    except Exception as error:  # noqa: BLE001  # it is what the test asks for
        return told, error


def finish(folder):
    record = folder.read_run() or folder.create_run(FINGERPRINT, PLAN, {})
    for shard in PLAN.shards:
        if shard.index not in folder.list_committed(record):
            commit(folder, record, shard.index)
    finish_run(folder, record, PLAN, {}, folder.list_parts(record))


def test_it_ends_when_the_output_is_done_whatever_batch_thinks(folder):
    steps = [lambda: folder.create_run(FINGERPRINT, PLAN, {}), lambda: finish(folder)]

    told, status = wait(folder, Batch("RUNNABLE", "RUNNING"), *steps)

    assert status.is_finished
    assert told[0] == "no runner has begun yet; children: 1 runnable"
    assert "nobody is at work" in told[1] and told[1].endswith("children: 1 running")
    assert ", finished; children: 1 running" in told[2]


@pytest.mark.parametrize(
    ("children", "kind", "said"),
    [
        ([describe(0, 137), describe(1)], Incomplete, "child 1: never started"),
        ([describe(0, 75), describe(1, 65)], DataError, "child 1: exit code 65"),
        ([describe(0, 78), describe(1, 137)], BackendError, "log stream log/0"),
        ([describe(0, 2), describe(1, 2)], SpecError, "exit code 2"),
    ],
)
def test_a_job_that_is_over_with_shards_missing_says_how_its_children_ended(folder, children, kind, said):
    told, error = wait(folder, Batch("RUNNING", "FAILED", children=children))

    assert type(error) is kind and said in str(error)
    assert told[-1].endswith("children: 2 failed")


def test_a_plain_job_that_failed_says_why(folder):
    _, error = wait(folder, Batch("FAILED"))

    assert error.exit_code == 75 and "the job: never started" in str(error)


def test_the_last_child_may_have_finished_the_run_after_batch_was_asked(folder):
    _, status = wait(folder, Batch("SUCCEEDED"), lambda: finish(folder))

    assert status.is_finished


def test_while_a_runner_is_at_work_it_waits_though_the_job_is_over(folder):
    record = folder.create_run(FINGERPRINT, PLAN, {})
    folder.write_lease(record, Lease("0" * 12, 1, (0,), "elsewhere", 1, "0/2"))

    told, status = wait(folder, Batch("FAILED"), *[lambda: None] * 5, lambda: finish(folder))

    assert status.is_finished and len(told) == 7
    assert "1 runner with 1 shard in hand" in told[0]
