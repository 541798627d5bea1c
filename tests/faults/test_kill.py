"""The command killed at random moments, and taken up again until it is done.

A worker, the parent, or all of it at once, as a machine goes, while they import, load, predict, commit and
finish. Whatever happens: nothing torn is ever visible, nobody survives the parent, and the rows of the end
are those of a run that nobody disturbed. Most kills hit a command whose model is a few lines of numpy,
because it is up again in a second; some hit the real one. `make kills N=500 SEED=1` kills more.
"""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil
import pytest

from tests.faults.invariants import (
    read_truth,
    require_finished,
    require_little_done_again,
    require_no_secret,
    require_unfinished,
)
from tests.faults.places import Bucket, Disk, Place, open_bucket
from tests.faults.processes import LIGHT, REAL, Command, Job
from tests.stores import s3_faults

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

MOST_S = 240  # what is killed by then is enough, on a machine that has other things to do
ROWS = 4_000
WORKERS, IN_HAND = 2, 3
JOB = (
    f"input.limit={ROWS}",
    "output.shard_rows=50",
    "input.keep=[synset]",
    f"backend.workers={WORKERS}",
    "shapes={batch_size: 16, sequence_length: [16, 32, 64, 128]}",
)
KINDS = {"worker": 0.55, "parent": 0.25, "machine": 0.2}


@dataclass
class Chaos:
    """Kills at random moments, and remembers what it hit."""

    place: Place
    program: tuple[str, ...]
    wanted: int
    seed: int
    environment: dict[str, str]
    kills: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def __str__(self) -> str:
        return f"seed {self.seed}, kills {dict(self.kills)}, exit codes {dict(self.codes)}"

    @property
    def is_enough(self) -> bool:
        return self.kills.total() >= self.wanted

    def job(self, name: str) -> Job:
        where = f"output.path='{self.place.locate(f'{name}/out')}'"
        count = None if isinstance(self.place, Disk) else lambda: count_objects(f"{name}/out/data/")
        return Job(self.place.folder / name, (*JOB, where), self.program, self.environment, count)

    def finish(self, name: str) -> None:
        """Run the job again and again, and kill, until it says that it is done."""
        job, code, before = self.job(name), None, {}
        while code != 0:
            command = job.start()
            while command.is_alive and not self.is_enough:
                self._wait(command)
                self._kill(command)
            code = command.wait()
            self.codes[code] += 1
            command.require_alone()
            assert code in (0, 75, -signal.SIGKILL), f"{self}\n{command.stderr}"
            now = require_unfinished(self.place.look(f"{name}/out"), code, has_tidied=False)
            assert before.items() <= now.items(), f"a committed part was written again: {self}"
            before = now

    def _wait(self, command: Command) -> None:
        """For any moment, or for one close to a commit."""
        if self.dice.random() < 0.3:
            time.sleep(self.dice.uniform(0, 1.5))
        else:
            command.wait_for_parts(self.dice.randint(1, 10), timeout_s=20)
            time.sleep(self.dice.uniform(0, 0.05))

    def _kill(self, command: Command) -> None:
        (kind,) = self.dice.choices(list(KINDS), list(KINDS.values()))
        workers = command.list_workers()
        if not command.is_alive or (kind == "worker" and not workers):
            return
        self.kills[f"{kind}, {'working' if command.count_parts() else 'starting'}"] += 1
        if kind == "machine":
            command.signal_all(signal.SIGKILL)
        elif kind == "parent":
            command.process.kill()
        else:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.dice.choice(workers).kill()
        if kind != "worker":
            command.wait()


def count_objects(prefix):
    return sum(1 for _ in open_bucket().objects.filter(Prefix=prefix))


@pytest.fixture
def environment(request, tmp_path, monkeypatch):
    """What the commands find; a bucket of this machine for S3."""
    if "s3" not in request.node.callspec.id:
        yield {}
        return
    with s3_faults.serve() as url:
        s3_faults.use_endpoint(monkeypatch, url)
        open_bucket()
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_DEFAULT_REGION")
        yield {**{name: os.environ[name] for name in names}, "TMPDIR": str(tmp_path)}


SHARES = {"local": (Disk, LIGHT, 0.65), "s3": (Bucket, LIGHT, 0.3), "real": (Disk, REAL, 0.05)}


@pytest.mark.case(1, 3, 4)
@pytest.mark.parametrize("kind", SHARES)
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(
    kind, environment, tmp_path, injected, pytestconfig
):
    make_place, program, share = SHARES[kind]
    wanted, seed = pytestconfig.getoption("kills"), pytestconfig.getoption("kill_seed")
    place = make_place(tmp_path)
    chaos = Chaos(place, program, max(3, round(share * wanted)), seed, environment)
    most_s = MOST_S if wanted <= 60 else float("inf")
    calm = chaos.job("calm")
    assert calm.start().wait() == 0
    truth = read_truth(place.look("calm/out"))
    begun, jobs = time.monotonic(), 0

    while not chaos.is_enough and time.monotonic() - begun < most_s:
        jobs += 1
        job, killed = chaos.job(f"job-{jobs}"), chaos.kills.total()
        chaos.finish(f"job-{jobs}")
        again = job.start()
        assert again.wait() == 0, again.stderr  # nothing is left to do, but to sweep what the dead left
        require_finished(place.look(f"job-{jobs}/out"), truth)
        place.require_tidy()
        require_no_secret(job.folder)
        if program is LIGHT:
            lost = (chaos.kills.total() - killed) * WORKERS * IN_HAND
            require_little_done_again(job.begun, truth, lost)

    injected(chaos.kills.total())
    rows = f"{jobs * ROWS:,} rows: 0 lost, 0 twice, 0 unreadable parts, the same bits"
    print(f"\n{kind}: {jobs} jobs, {chaos}; {rows}")  # noqa: T201  # shown by `make kills`
