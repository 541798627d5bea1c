"""Peak memory of the parent and of a worker, for 50,000 and for 500,000 rows: it must not grow with them.

    python benchmarks/memory.py

Makes the rows and a small model in a temporary folder, runs `batchneuron run` on them twice, and writes
the figures to `benchmarks/memory.md`.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[1]
QUICKSTART = REPOSITORY / "jobs/quickstart"
REPORT = Path(__file__).with_suffix(".md")
ROWS = (50_000, 500_000)
WORKERS = 2
ALLOWED_GROWTH = 1.10
_SAMPLE_EVERY_S = 0.05


@dataclass(frozen=True)
class Peak:
    """What one run needed."""

    rows: int
    parent_mib: float
    worker_mib: float
    """Of the worker that needed most."""
    elapsed_s: float


def save_model(folder: Path) -> None:
    """The quickstart's tokenizer with a classifier of one narrow layer, so that the device is quick."""
    import torch
    from transformers import AutoConfig, BertForSequenceClassification

    shutil.copytree(QUICKSTART / "model", folder)
    config = AutoConfig.from_pretrained(folder)
    config.update(
        {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32}
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).eval().save_pretrained(folder)


def write_rows(path: Path, rows: int) -> None:
    """The quickstart's rows, again and again, in row groups of 20,000."""
    table = pq.read_table(QUICKSTART / "glosses.parquet")
    times = -(-rows // table.num_rows)
    pq.write_table(pa.concat_tables([table] * times).slice(0, rows), path, row_group_size=20_000)


def measure(rows: int, folder: Path) -> Peak:
    """Run a job over so many rows, and watch its processes."""
    data = folder / f"{rows}.parquet"
    write_rows(data, rows)
    spec = folder / "job.yaml"
    spec.write_text(
        "task: text-classification\n"
        f"model: {{id: '{folder / 'model'}'}}\n"
        f"input: {{path: '{data}', columns: {{text: definition}}}}\n"
        f"output: {{path: '{folder / str(rows)}'}}\n"
        f"backend: {{workers: {WORKERS}}}\n"
    )
    started = time.monotonic()
    job = subprocess.Popen(
        [sys.executable, "-m", "batchneuron", "run", str(spec)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
    )
    parent_kib = worker_kib = 0
    while job.poll() is None:
        parent_kib = max(parent_kib, _peak_kib(job.pid))
        for child in _children(job.pid):
            worker_kib = max(worker_kib, _peak_kib(child))
        time.sleep(_SAMPLE_EVERY_S)
    if job.returncode:
        raise SystemExit(f"the job over {rows} rows ended with {job.returncode}")
    return Peak(rows, parent_kib / 1024, worker_kib / 1024, time.monotonic() - started)


def _peak_kib(pid: int) -> int:
    """VmHWM: the most resident memory the process ever had; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def show(peaks: list[Peak]) -> str:
    """The figures as a Markdown table, the last line being what the most rows needed over the fewest."""
    first, last = peaks[0], peaks[-1]
    lines = ["| rows | parent, MiB | worker, MiB | seconds |", "|---:|---:|---:|---:|"]
    lines += [f"| {p.rows:,} | {p.parent_mib:.0f} | {p.worker_mib:.0f} | {p.elapsed_s:.0f} |" for p in peaks]
    ratios = last.parent_mib / first.parent_mib, last.worker_mib / first.worker_mib
    return "\n".join([*lines, f"| ratio | {ratios[0]:.2f} | {ratios[1]:.2f} | |"])


def report(table: str) -> str:
    """The page: what was done, on what, and what came out."""
    every_ms = _SAMPLE_EVERY_S * 1000
    machine = f"{_cpu_model()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    return f"""# Memory

The most memory that the parent and the hungriest of {WORKERS} workers had resident from start to end of a
job: `VmHWM` in `/proc/<pid>/status`, looked at every {every_ms:.0f} ms. Ten times the rows must not need
more: a worker holds three shards, the parent holds the plan.

    python benchmarks/memory.py

{table}

- Rows: the quickstart's definitions, repeated, in one Parquet file with row groups of 20,000.
- Model: the quickstart's tokenizer with a BERT of one layer, 16 wide, so that reading, tokenising and
  writing are most of the work. Most of a worker's memory is Python, torch and transformers.
- Shards, shapes and batches: `auto`, so about 4,000 rows in a shard.
- Machine: {machine}. Others were at work on it, so the seconds say little.
"""


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU"
    )


def main() -> None:
    """Measure, print, and write the page."""
    with tempfile.TemporaryDirectory(prefix="batchneuron-memory-") as name:
        folder = Path(name)
        save_model(folder / "model")
        peaks = [measure(rows, folder) for rows in ROWS]
    table = show(peaks)
    print(table)
    REPORT.write_text(report(table))
    first, last = peaks[0], peaks[-1]
    if max(last.parent_mib / first.parent_mib, last.worker_mib / first.worker_mib) > ALLOWED_GROWTH:
        raise SystemExit("memory grows with the rows")


if __name__ == "__main__":
    main()
