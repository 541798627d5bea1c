"""Seconds until a job over thousands of small files is planned: what a user waits before the first row.

    python benchmarks/start.py

Makes the files in a temporary folder, runs `batchneuron plan` on them, and writes the figures to
`benchmarks/start.md`.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[1]
QUICKSTART = REPOSITORY / "jobs/quickstart"
REPORT = Path(__file__).with_suffix(".md")
FILES = (1, 1_000, 5_000)
ROWS_PER_FILE = 100
RUNS = 3


def write_files(folder: Path, files: int) -> None:
    """The quickstart's rows, again and again, a hundred in each file."""
    table = pq.read_table(QUICKSTART / "glosses.parquet")
    rows = pa.concat_tables([table] * (files * ROWS_PER_FILE // table.num_rows + 1)).combine_chunks()
    folder.mkdir()
    for number in range(files):
        pq.write_table(rows.slice(number * ROWS_PER_FILE, ROWS_PER_FILE), folder / f"{number:05}.parquet")


def measure(files: int, folder: Path) -> float:
    """Seconds of `batchneuron plan`, from the shell's point of view; the best of some runs."""
    data, spec = folder / str(files), folder / "job.yaml"
    write_files(data, files)
    spec.write_text(
        "task: text-classification\n"
        f"model: {{id: '{QUICKSTART / 'model'}'}}\n"
        f"input: {{path: '{data}', columns: {{text: definition}}}}\n"
        f"output: {{path: '{folder / 'out'}'}}\n"
    )
    best_s = float("inf")
    for _ in range(RUNS):
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "batchneuron", "plan", str(spec)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder / "cache")},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        best_s = min(best_s, time.monotonic() - started)
    return best_s


def report(table: str) -> str:
    """The page: what was done, on what, and what came out."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )
    return f"""# Start

Seconds that `batchneuron plan` takes over many small Parquet files, from the start of the process to its
end: imports, the footer of every file, the model's digest, the lengths of a sample of rows, the shapes and
the shards. The best of {RUNS} runs each. A resumed run skips the sample.

    python benchmarks/start.py

{table}

- Files: {ROWS_PER_FILE} of the quickstart's rows each, on a local disk, in the page cache.
- Machine: {cpu}, {os.cpu_count()} CPUs, Python {platform.python_version()}; others were at work on it.
"""


def main() -> None:
    """Measure, print, and write the page."""
    lines = ["| files | rows | seconds |", "|---:|---:|---:|"]
    with tempfile.TemporaryDirectory(prefix="batchneuron-start-") as name:
        for files in FILES:
            seconds = measure(files, Path(name))
            lines.append(f"| {files:,} | {files * ROWS_PER_FILE:,} | {seconds:.1f} |")
            print(lines[-1])
    REPORT.write_text(report("\n".join(lines)))


if __name__ == "__main__":
    main()
