"""The supervisor killed alone, and a SIGTERM that does not end in time: what is committed stays."""

import signal
import time

import pytest

from tests.faults.invariants import digest_parts, read_truth, require_finished, require_unfinished
from tests.faults.processes import LIGHT, Job
from tests.faults.test_stop import JOB

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    calm = Job(tmp_path_factory.mktemp("calm"), JOB, LIGHT)
    assert calm.start().wait() == 0
    return read_truth(calm.output)


@pytest.fixture
def frozen(tmp_path):
    """A job with some parts, whose workers stand still: nothing in hand can be finished."""
    job = Job(tmp_path / "job", JOB, LIGHT)
    command = job.start()
    command.wait_for_parts(3, timeout_s=60)
    assert command.is_alive, command.stderr
    for worker in command.list_workers():
        worker.suspend()
    yield job, command
    command.signal_all(signal.SIGKILL)


def require_resumed(job, truth, before):
    command = job.start()
    assert command.wait() == 0, command.stderr
    require_finished(job.output, truth, before)


@pytest.mark.case(4)
def test_workers_end_with_their_supervisor_even_if_they_stand_still(frozen, truth):
    job, command = frozen

    command.process.kill()

    assert command.wait() == -signal.SIGKILL
    command.require_alone()
    before = require_unfinished(job.output, -signal.SIGKILL)
    assert before
    require_resumed(job, truth, before)


@pytest.mark.case(5)
def test_what_is_committed_stays_when_sigterm_is_followed_by_sigkill(frozen, truth):
    job, command = frozen
    before = digest_parts(job.output)

    command.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert command.is_alive
    command.signal_all(signal.SIGKILL)

    assert command.wait() == -signal.SIGKILL
    command.require_alone()
    assert require_unfinished(job.output, -signal.SIGKILL) == before
    require_resumed(job, truth, before)
