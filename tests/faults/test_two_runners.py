"""Two commands at the same run folder, and a finished run that loses a part."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.harness import read_bits, require_whole
from tests.faults.processes import LIGHT, Job

ROWS = 3_000
JOB = (
    f"input.limit={ROWS}",
    "output.shard_rows=50",
    "input.keep=[synset]",
    "shapes.sequence_length=[64, 128]",
)


def run_all(jobs):
    """Exit codes of jobs that run at the same time."""
    commands = [job.start() for job in jobs]
    with ThreadPoolExecutor(len(commands)) as pool:
        codes = list(pool.map(lambda command: command.wait(), commands))
    for command in commands:
        command.require_alone()
    return codes, [command.stderr for command in commands]


@pytest.mark.case(25)
def test_two_runners_of_one_job_share_the_work_and_both_end_well(tmp_path):
    out = f"output.path='{tmp_path / 'out'}'"
    jobs = [Job(tmp_path / name, (*JOB, out, "backend.workers=1"), LIGHT) for name in ("one", "two")]

    codes, stderr = run_all(jobs)

    assert codes == [0, 0], stderr
    require_whole(tmp_path / "out", ROWS)
    calm = Job(tmp_path / "calm", (*JOB, "backend.workers=0"), LIGHT)
    assert calm.start().wait() == 0
    assert read_bits(tmp_path / "out") == read_bits(calm.output)


@pytest.mark.case(26)
@pytest.mark.thorough
def test_another_job_is_refused_and_told_what_differs(tmp_path):
    job = Job(tmp_path / "job", (*JOB, "backend.workers=0"), LIGHT)
    assert job.start().wait() == 0
    before = read_bits(job.output)
    other = Job(job.folder, (*job.overrides, "options.top_k=3"), LIGHT)

    command = other.start()

    assert command.wait() == 73
    assert "options.top_k: 3 here, 1 in the run folder" in command.stderr
    require_whole(job.output, ROWS)
    assert read_bits(job.output) == before


@pytest.mark.case(31)
@pytest.mark.thorough
def test_a_part_that_got_lost_is_made_again_and_the_manifest_still_tells_the_truth(tmp_path):
    job = Job(tmp_path / "job", (*JOB, "backend.workers=0"), LIGHT)
    assert job.start().wait() == 0
    before = read_bits(job.output)
    manifest = json.loads((job.output / ".batchneuron/manifest.json").read_text())
    (job.output / "data" / manifest["parts"][7]["name"]).unlink()

    command = job.start()

    assert command.wait() == 0, command.stderr
    require_whole(job.output, ROWS)
    assert read_bits(job.output) == before
