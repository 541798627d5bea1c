"""Full file systems, under a run folder and under the scratch files of one in S3; a disk that breaks."""

import contextlib
import os
import subprocess

import pytest

from tests.faults.invariants import read_truth, require_finished, require_unfinished
from tests.faults.places import BUCKET, Bucket, open_bucket
from tests.faults.processes import LIGHT, Job
from tests.stores import s3_faults

pytestmark = pytest.mark.faults

MIB = 1 << 20
JOB = (
    "input.limit=6000",
    "output.shard_rows=100",
    "backend.workers=1",
    "shapes={batch_size: 16, sequence_length: [64, 128]}",
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    calm = Job(tmp_path_factory.mktemp("calm"), JOB, LIGHT)
    assert calm.start().wait() == 0
    return read_truth(calm.output)


@pytest.fixture
def mount(tmp_path):
    """Make file systems of so many MiB."""
    mounted = []

    def make(size_mib):
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "none", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip("a small file system cannot be mounted here: that takes root")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def bucket_environment(tmp_path, monkeypatch):
    with s3_faults.serve() as url:
        s3_faults.use_endpoint(monkeypatch, url)
        open_bucket()
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION")
        yield {name: os.environ[name] for name in names}


def fill(folder):
    """All of it, until there is room for nothing."""
    path = folder / "filler"
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path


@pytest.mark.case(8)
def test_a_disk_that_fills_up_ends_the_run_with_75_and_room_completes_it(mount, truth):
    job = Job(mount(64), JOB, LIGHT)
    command = job.start()
    command.wait_for_parts(2, timeout_s=60)
    filler = fill(job.folder)

    assert command.wait() == 75, command.stderr
    assert f"{job.output}" in command.stderr and "the disk is full" in command.stderr
    assert "MiB)" in command.stderr and "free some space" in command.stderr
    before = require_unfinished(job.output, 75)
    filler.unlink()
    again = job.start()
    assert again.wait() == 0, again.stderr
    require_finished(job.output, truth, before)


@pytest.mark.case(12)
def test_scratch_without_room_for_two_parts_of_each_worker_is_refused_at_the_start(
    mount, tmp_path, bucket_environment
):
    environment = {**bucket_environment, "TMPDIR": str(mount(1))}
    where = f"output.path=s3://{BUCKET}/out"
    job = Job(tmp_path / "job", (*JOB, "output.shard_rows=6000", where), LIGHT, environment)
    command = job.start()

    assert command.wait() == 75, command.stderr
    assert "MiB are needed" in command.stderr and "TMPDIR" in command.stderr
    assert not list(open_bucket().objects.filter(Prefix="out/"))
    assert not job.begun.exists()


@pytest.mark.case(12)
def test_scratch_that_fills_up_ends_the_run_with_75_and_room_completes_it(
    mount, tmp_path, truth, bucket_environment
):
    scratch, place = mount(16), Bucket(tmp_path)
    where = f"output.path={place.locate('out')}"
    environment = {**bucket_environment, "TMPDIR": str(scratch)}

    def count_parts():
        return sum(1 for _ in open_bucket().objects.filter(Prefix="out/data/"))

    job = Job(tmp_path / "job", (*JOB, where), LIGHT, environment, count_parts)
    command = job.start()
    command.wait_for_parts(2, timeout_s=60)
    filler = fill(scratch)

    assert command.wait() == 75, command.stderr
    assert "the disk is full" in command.stderr and str(scratch) in command.stderr
    before = require_unfinished(place.look("out"), 75)
    filler.unlink()
    again = job.start()
    assert again.wait() == 0, again.stderr
    require_finished(place.look("out"), truth, before)
    assert list(scratch.glob("batchneuron-*/*.inprogress")) == []


@pytest.mark.case(9)
@pytest.mark.parametrize(("failures", "code"), [(1, 0), (1_000, 78)], ids=["once", "always"])
def test_a_part_whose_fsync_failed_is_written_again_from_its_rows(failures, code, tmp_path, truth):
    broken = tmp_path / "broken"
    broken.mkdir()
    environment = {"LIGHT_EIO": f"{broken}:{failures}"}
    job = Job(tmp_path / "job", JOB, LIGHT, environment)

    command = job.start()

    assert command.wait() == code, command.stderr
    if code == 0:
        require_finished(job.output, truth)
        assert len(job.begun.read_text().split()) > truth.shards
    else:
        assert "I/O error, cannot write" in command.stderr
        assert 3 <= len(list(broken.iterdir())) < 12  # three attempts, and not one of them flushed twice
        assert require_unfinished(job.output, code) == {}
