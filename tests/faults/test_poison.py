"""Rows that kill whoever encodes, computes or decodes them, through the real command with two workers.

The poison is real: a null pointer is read, a process is stopped, killed, out of memory. All other rows
must come out with the bits that they have in a run whose program does not mind.
"""

import json
import re
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.harness import read_rows, require_whole
from tests.faults.processes import LIGHT, Job

pytestmark = [pytest.mark.faults, pytest.mark.timeout(280)]

POISON = (str(Path(__file__).with_name("poison.py")),)
ROWS = 2048
SHARD_ROWS = 512  # the parent encodes the first 256 of a shard to plan by, and would die of those
LINE = "entry {:04} of a catalogue of things"
CRASHES = {
    "segfault": "SIGSEGV",
    "abort": "SIGABRT",
    "exception": "this row is odd",
    "panic": "Panic: this row is odd",
}


def write_rows(folder: Path, poison: dict[int, str]) -> Path:
    """One length, so that every batch has 64 rows; `poison` by row."""
    folder.mkdir()
    texts = [f"{LINE.format(row)} {poison.get(row, '')}".ljust(80, ".") for row in range(ROWS)]
    pq.write_table(pa.table({"definition": texts}), folder / "rows.parquet", row_group_size=SHARD_ROWS)
    return folder / "rows.parquet"


class Poisoned:
    """A job over rows of which some are poison."""

    def __init__(self, folder: Path, poison: dict[int, str], *overrides: str) -> None:
        self.poison = poison
        self._folder = folder
        self._overrides = (
            f"input.path={write_rows(folder / 'input', poison)}",
            f"output.shard_rows={SHARD_ROWS}",
            "backend.workers=2",
            "shapes={batch_size: 64, sequence_length: [96]}",
            *overrides,
        )

    def run(self, program=POISON):
        job = Job(self._folder / ("poison" if program is POISON else "calm"), self._overrides, program)
        command = job.start([*job.arguments, "--json"])
        return job, command, command.wait(200)

    def require_isolated(self, code: str) -> tuple[Job, str]:
        """Only the poison is rejected, with its code; everything else has its bits. Gives the job, stderr."""
        job, command, exit_code = self.run()
        assert exit_code == 0, command.stderr
        command.require_alone()
        require_whole(job.output, ROWS)
        rows, calm = read_rows(job.output), read_rows(self.run(LIGHT)[0].output)
        errors = {row: error for row, error in enumerate(rows["_error"].to_pylist()) if error}
        assert {row: error["code"] for row, error in errors.items()} == dict.fromkeys(self.poison, code)
        healthy = [row for row in range(ROWS) if row not in self.poison]
        for name in ("label", "score"):
            assert rows[name].take(healthy).equals(calm[name].take(healthy))
            assert rows[name].take(list(self.poison)).null_count == len(self.poison)
        return job, command.stderr


def count_restarts(stderr: str) -> int:
    return len(re.findall(r"warning: core \d+:", stderr))


@pytest.mark.case(41)
@pytest.mark.parametrize("kind", ["segfault", "abort", "exception", "panic"])
def test_a_row_that_crashes_its_worker_is_rejected_and_its_batch_is_not(kind, tmp_path):
    job, stderr = Poisoned(tmp_path, {300: f"<{kind}>"}).require_isolated("worker_crash")

    message = read_rows(job.output)["_error"].to_pylist()[300]["message"]
    assert CRASHES[kind] in message
    assert "row 300 is rejected" in stderr
    assert 3 <= count_restarts(stderr) <= 4


@pytest.mark.case(41, 42)
@pytest.mark.parametrize("kind", ["hang", "stop"])
def test_a_row_that_stops_its_worker_is_rejected_and_its_batch_is_not(kind, tmp_path):
    _, stderr = Poisoned(tmp_path, {300: f"<{kind}>"}, "errors.hang_s=2").require_isolated("worker_hang")

    assert count_restarts(stderr) <= 4
    if kind == "hang":
        assert "poison.py" in stderr, "the stacks of the threads are shown"


@pytest.mark.case(43)
@pytest.mark.parametrize("kind", ["oom kill", "no memory"])
def test_a_row_that_takes_all_memory_is_rejected_and_its_batch_is_not(kind, tmp_path):
    _, stderr = Poisoned(tmp_path, {300: f"<{kind}>"}).require_isolated("out_of_memory")

    assert count_restarts(stderr) <= 5


def test_several_in_one_batch_and_in_one_shard_are_all_found(tmp_path):
    poison = {2: "<segfault>", 3: "<segfault>", 61: "<abort>", 130: "<exception>", 2047: "<segfault>"}

    Poisoned(tmp_path, poison).require_isolated("worker_crash")


def test_a_row_that_crashes_the_tokenizer_is_rejected(tmp_path):
    # Not 300: planning reads that row, and in the command's own process.
    poison = {350: "<at encode><segfault>", 900: "<segfault>", 1500: "<at encode><panic>"}

    Poisoned(tmp_path, poison).require_isolated("worker_crash")


def test_a_row_that_crashes_the_decoder_is_rejected(tmp_path):
    poison = {300: "<at decode><segfault>", 900: "<segfault>", 1500: "<at decode><exception>"}

    Poisoned(tmp_path, poison).require_isolated("worker_crash")


def test_a_row_that_never_comes_out_of_the_decoder_is_rejected(tmp_path):
    Poisoned(tmp_path, {300: "<at decode><hang>"}, "errors.hang_s=2").require_isolated("worker_hang")


def test_a_file_that_kills_whoever_reads_it_ends_the_run_by_name(tmp_path):
    _, command, code = Poisoned(tmp_path, {300: "<at read><segfault>"}).run()

    assert code == 65, command.stderr
    command.require_alone()
    assert "rows.parquet: reading rows 0 to 512 has failed 3 times: a worker died with signal SIGSEGV" in (
        command.stderr
    )


def test_what_kills_whoever_reads_it_is_skipped_where_bad_files_may_be(tmp_path):
    skips = ("input.on_bad_file=skip", "errors.max_rejected=1000")
    poisoned = Poisoned(tmp_path, {300: "<at read><abort>"}, *skips)

    job, command, code = poisoned.run()

    assert code == 0, command.stderr
    require_whole(job.output, ROWS)
    errors = read_rows(job.output)["_error"].to_pylist()
    assert [error and error["code"] for error in errors] == ["bad_file"] * SHARD_ROWS + [
        None
    ] * 3 * SHARD_ROWS
    assert (
        "rows.parquet: reading it has failed twice: a worker died with signal SIGABRT" in errors[0]["message"]
    )
    verified = job.start(["verify", str(job.output), "--replay", "100%"])
    assert verified.wait(120) == 0, verified.stderr


def test_without_workers_a_row_whose_call_raises_is_rejected_all_the_same(tmp_path):
    poison = {300: "<exception>", 301: "<panic>", 900: "<at encode><panic>", 1500: "<at decode><exception>"}

    _, stderr = Poisoned(tmp_path, poison, "backend.workers=0").require_isolated("worker_crash")

    assert count_restarts(stderr) == 0
    assert "row 300 is rejected: ValueError: this row is odd, on this row alone" in stderr


def test_a_replay_leaves_such_rows_alone(tmp_path):
    job, _ = Poisoned(tmp_path, {300: "<segfault>"}).require_isolated("worker_crash")

    verified = job.start(["verify", str(job.output), "--replay", "100%"])

    assert verified.wait(120) == 0, verified.stderr


def test_a_row_that_kills_whoever_holds_programs_against_the_reference_is_rejected_like_any_other(tmp_path):
    _, stderr = Poisoned(
        tmp_path, {0: "<segfault>"}, "backend.precision=bfloat16", "backend.parity_rows=64"
    ).require_isolated("worker_crash")

    before, agrees, _ = stderr.partition("agrees with the reference")
    assert agrees
    assert before.count("Fatal Python error: Segmentation fault") == 1


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["exception", "panic"])
def test_a_row_of_a_sample_whose_call_raises_is_rejected_like_any_other(kind, workers, tmp_path):
    """Row 5 is encoded to plan by, row 0 computed to hold programs against the reference."""
    poison = {0: f"<{kind}>", 5: f"<at encode><{kind}>"}
    sampled = ("backend.precision=bfloat16", "backend.parity_rows=64", f"backend.workers={workers}")

    _, stderr = Poisoned(tmp_path, poison, *sampled).require_isolated("worker_crash")

    assert "agrees with the reference" in stderr


def test_a_row_that_kills_the_command_itself_leaves_word_of_where(tmp_path):
    _, command, code = Poisoned(tmp_path, {5: "<at encode><segfault>"}).run()

    assert code == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in command.stderr
    assert "_sample_items" in command.stderr


def test_an_input_that_is_all_poison_ends_the_job_soon(tmp_path):
    poisoned = Poisoned(tmp_path, dict.fromkeys(range(ROWS), "<segfault>"))

    job, command, code = poisoned.run()

    assert code == 65, command.stderr
    command.require_alone()
    assert count_restarts(command.stderr) < 40
    assert re.search(r"killed a worker|rows were rejected", command.stderr)
    assert json.loads((job.output / ".batchneuron/run.json").read_text())
