"""The command killed at random moments, and taken up again until it is done.

Parent and workers get SIGKILL while they import, load, predict, commit and finish. Whatever happens:
nothing torn is ever visible, nobody survives the parent, and the rows of the end are those of a run
that nobody disturbed. Most kills hit a command whose model is a few lines of numpy, because it is up
again in a second; some hit the real one.
"""

import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil
import pytest

from tests.faults.harness import read_bits, require_readable, require_whole
from tests.faults.processes import LIGHT, REAL, Command, Job

pytestmark = pytest.mark.faults

SEED = 20261122
SIGKILLED = -9
MOST_S = 280  # what is killed by then is enough, on a machine that has other things to do
ROWS = 4_000
JOB = (
    f"input.limit={ROWS}",
    "output.shard_rows=50",
    "input.keep=[synset]",
    "backend.workers=2",
    "shapes={batch_size: 16, sequence_length: [16, 32, 64, 128]}",
)


@dataclass
class Chaos:
    """Kills at random moments, and remembers what it hit."""

    wanted: int
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))
    kills: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"seed {SEED}, kills {dict(self.kills)}, exit codes {dict(self.codes)}"

    @property
    def is_enough(self) -> bool:
        return self.kills.total() >= self.wanted

    def finish(self, job: Job) -> None:
        """Run the job again and again, and kill, until it says that it is done."""
        code = None
        while code != 0:
            command = job.start()
            while command.is_alive and not self.is_enough:
                self._wait(command)
                self._kill(command)
            code = command.wait()
            self.codes[code] += 1
            command.require_alone()
            assert code in (0, 75, SIGKILLED), f"{self}\n{command.stderr}"
            if (job.output / "data").exists():
                require_readable(job.output)

    def _wait(self, command: Command) -> None:
        """For any moment, or for one close to a commit."""
        if self.dice.random() < 0.3:
            time.sleep(self.dice.uniform(0, 1.5))
        else:
            command.wait_for_parts(self.dice.randint(1, 10), timeout_s=20)
            time.sleep(self.dice.uniform(0, 0.05))

    def _kill(self, command: Command) -> None:
        workers = command.list_workers()
        if self.dice.random() < 0.35:
            name, victim = "parent", command.process
        elif workers:
            name, victim = "worker", self.dice.choice(workers)
        else:
            return
        if command.is_alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
            self.kills[f"{name}, {'working' if command.count_parts() else 'starting'}"] += 1
        if name == "parent":
            command.wait()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("program", "kills"), [(LIGHT, 24), (REAL, 4)], ids=["light", "real"])
def test_killed_at_random_moments_it_ends_as_if_nothing_had_happened(program, kills, tmp_path):
    undisturbed = {}
    chaos = Chaos(kills)
    begun, jobs = time.monotonic(), 0

    while not chaos.is_enough and time.monotonic() - begun < MOST_S:
        jobs += 1
        job = Job(tmp_path / f"job-{jobs}", JOB, program)
        chaos.finish(job)
        assert job.start().wait() == 0  # nothing is left to do, but to sweep what the dead left
        require_whole(job.output, ROWS)
        if jobs == 1:
            calm = Job(tmp_path / "calm", JOB, program)
            assert calm.start().wait() == 0
            undisturbed = read_bits(calm.output)
        assert read_bits(job.output) == undisturbed, str(chaos)

    print(f"{jobs} jobs, {chaos}")  # noqa: T201  # shown with pytest -s
