"""Spawned processes know nothing of the program that runs a job, which needs no guard for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from multiprocess import spawn

from batchneuron.workers.spawn import start
from tests.faults.harness import read_rows

# As people write one: whatever it does, it does at the top.
SCRIPT = """
import sys
from pathlib import Path

from batchneuron import load_job, run_job

with Path(sys.argv[1]).open("a") as file:
    file.write("imported\\n")
summary = run_job(load_job(sys.argv[2]))
print(summary.rows)
"""


def test_a_script_that_runs_a_job_needs_no_guard(classifier, rows_folder, tmp_path):
    script, imported, job = (tmp_path / name for name in ("script.py", "imported", "job.yaml"))
    script.write_text(SCRIPT)
    job.write_text(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        f"input: {{path: '{rows_folder}', columns: {{text: text}}}}\n"
        "backend: {workers: 2, kind: torch}\n"
        f"output: {{path: '{tmp_path / 'out'}', shard_rows: 10}}\n"
    )

    done = subprocess.run(
        [sys.executable, script, imported, job],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )

    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert imported.read_text() == "imported\n"
    assert read_rows(tmp_path / "out")["_row"].to_pylist() == list(range(42))


def test_multiprocess_is_as_it_was_even_when_nothing_starts():
    tell, seen = spawn.get_preparation_data, []

    def refuse():
        seen.append(spawn.get_preparation_data("x"))
        raise BlockingIOError("Resource temporarily unavailable")

    with pytest.raises(BlockingIOError):
        start(SimpleNamespace(start=refuse))

    assert spawn.get_preparation_data is tell
    assert seen[0]["name"] == "x"
    assert not [key for key in seen[0] if "main" in key]
