"""Seconds that a user waits: for the help, for a plan over thousands of small files, for the first batch.

    python benchmarks/start.py [MODEL]

Makes the files in a temporary folder, runs the commands on them, and writes the figures to
`benchmarks/start.md`. MODEL is a folder for the first batch, by default the quickstart's.
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
FILES = (1, 1_000, 10_000)
ROWS_PER_FILE = 100
RUNS = 3


def write_files(folder: Path, files: int) -> None:
    """The quickstart's rows, again and again, a hundred in each file."""
    table = pq.read_table(QUICKSTART / "glosses.parquet")
    rows = pa.concat_tables([table] * (files * ROWS_PER_FILE // table.num_rows + 1)).combine_chunks()
    folder.mkdir()
    for number in range(files):
        pq.write_table(rows.slice(number * ROWS_PER_FILE, ROWS_PER_FILE), folder / f"{number:05}.parquet")


def measure_plan(files: int, folder: Path) -> float:
    """Seconds of `batchneuron plan`."""
    data = folder / str(files)
    write_files(data, files)
    spec = write_spec(folder, data, QUICKSTART / "model")
    return min(run_command(folder, "plan", str(spec)) for _ in range(RUNS))


def measure_first_batch(folder: Path, model: Path) -> float:
    """Seconds of a whole run of a hundred rows in one shard, whose program and tokenizer are in the cache."""
    data = folder / "1"
    seconds = []
    for number in range(RUNS + 1):  # the first one compiles
        spec = write_spec(folder, data, model)
        output = f"output.path={folder / f'out-{number}'}"
        seconds.append(run_command(folder, "run", str(spec), "--set", output))
    return min(seconds[1:])


def write_spec(folder: Path, data: Path, model: Path) -> Path:
    """A job over a folder of rows: labels where the model has some, else embeddings."""
    has_labels = "SequenceClassification" in (model / "config.json").read_text()
    path = folder / "job.yaml"
    path.write_text(
        f"task: {'text-classification' if has_labels else 'feature-extraction'}\n"
        f"model: {{id: '{model}'}}\n"
        f"input: {{path: '{data}', columns: {{text: definition}}}}\n"
        f"output: {{path: '{folder / 'out'}'}}\n"
    )
    return path


def run_command(folder: Path, *arguments: str) -> float:
    """Seconds of `batchneuron`, from the shell's point of view."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "batchneuron", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - started


def report(table: str) -> str:
    """The page: what was done, on what, and what came out."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )
    return f"""# Start

Seconds from the start of a command to its end, the best of {RUNS} runs each.

    python benchmarks/start.py [MODEL]

{table}

- `plan`: imports, the footer of every file, the model's digest, the lengths of a sample of rows, the shapes
  and the shards. A resumed run skips the sample.
- `run`: all of that over {ROWS_PER_FILE} rows in one file, one worker's start, its shapes, its rows, and the
  manifest. The program and the tokenizer were in the cache; making them needs torch, and is done once.
- Files: {ROWS_PER_FILE} of the quickstart's rows each, on a local disk, in the page cache.
- Machine: {cpu}, {os.cpu_count()} CPUs, Python {platform.python_version()}.
"""


def main() -> None:
    """Measure, print, and write the page."""
    model = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else QUICKSTART / "model"
    lines = ["| command | files | rows | seconds |", "|---|---:|---:|---:|"]

    def add(command: str, files: int, seconds: float) -> None:
        shown = f"{files:,} | {files * ROWS_PER_FILE:,}" if files else "- | -"
        lines.append(f"| `{command}` | {shown} | {seconds:.1f} |")
        print(lines[-1])

    with tempfile.TemporaryDirectory(prefix="batchneuron-start-") as name:
        folder = Path(name)
        add("--help", 0, min(run_command(folder, "--help") for _ in range(RUNS)))
        for files in FILES:
            add("plan", files, measure_plan(files, folder))
        add("run", 1, measure_first_batch(folder, model))
    REPORT.write_text(report("\n".join(lines)))


if __name__ == "__main__":
    main()
