"""Wall clocks that jump, and hosts whose clocks disagree: nothing that is decided depends on them."""

import pytest

from tests.faults.invariants import read_truth, require_finished
from tests.faults.processes import LIGHT, Job
from tests.faults.test_two_runners import JOB, run_all

pytestmark = pytest.mark.faults


@pytest.mark.case(29)
@pytest.mark.parametrize("clocks", [("+3600", "-3600"), ("jumps", "jumps")], ids=["skewed", "jumping"])
def test_runners_whose_clocks_are_wrong_share_the_work_as_ever(clocks, tmp_path):
    out = f"output.path='{tmp_path / 'out'}'"
    jobs = [
        Job(tmp_path / str(number), (*JOB, out, "backend.workers=1"), LIGHT, {"LIGHT_CLOCK": clock})
        for number, clock in enumerate(clocks)
    ]

    codes, stderr = run_all(jobs)

    assert codes == [0, 0], stderr
    calm = Job(tmp_path / "calm", (*JOB, "backend.workers=0"), LIGHT)
    assert calm.start().wait() == 0
    require_finished(tmp_path / "out", read_truth(calm.output))
