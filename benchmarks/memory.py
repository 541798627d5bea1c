"""Peak memory, and CPU time of a row, for 10,000 to 1,000,000 rows: neither may grow with them.

    python benchmarks/memory.py

Makes the rows and a small model in a temporary folder, runs `batchneuron run` on them, and writes the
figures to `benchmarks/memory.md`.
"""

from __future__ import annotations

import os
import platform
import resource
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
ROWS = (10_000, 50_000, 100_000, 1_000_000)
STEADY_ROWS = 50_000
"""From here on all of a worker's three shards are full."""
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
    cpu_s: float
    """Of all processes."""


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
    started, cpu_before_s = time.monotonic(), _children_cpu_s()
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
    elapsed_s, cpu_s = time.monotonic() - started, _children_cpu_s() - cpu_before_s
    return Peak(rows, parent_kib / 1024, worker_kib / 1024, elapsed_s, cpu_s)


def _children_cpu_s() -> float:
    """CPU seconds of all processes that this one has waited for, and of those that they have."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    """The figures as a Markdown table, the last line being the most rows over the first steady number."""
    lines = [
        "| rows | parent, MiB | worker, MiB | seconds | CPU seconds | CPU µs for each further row |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for before, peak in zip([None, *peaks], peaks, strict=False):
        more = (peak.cpu_s - before.cpu_s) / (peak.rows - before.rows) * 1e6 if before else 0.0
        lines.append(
            f"| {peak.rows:,} | {peak.parent_mib:.0f} | {peak.worker_mib:.0f} | {peak.elapsed_s:.0f} | "
            f"{peak.cpu_s:.0f} | {f'{more:.0f}' if before else ''} |"
        )
    parent, worker = compare(peaks)
    return "\n".join([*lines, f"| ratio | {parent:.2f} | {worker:.2f} | | | |"])


def compare(peaks: list[Peak]) -> tuple[float, float]:
    """What parent and worker needed for the most rows, over what they needed for the first steady number."""
    steady, last = next(peak for peak in peaks if peak.rows >= STEADY_ROWS), peaks[-1]
    return last.parent_mib / steady.parent_mib, last.worker_mib / steady.worker_mib


def report(table: str) -> str:
    """The page: what was done, on what, and what came out."""
    every_ms = _SAMPLE_EVERY_S * 1000
    machine = f"{_cpu_model()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    return f"""# Memory, and time, as rows grow

The most memory that the parent and the hungriest of {WORKERS} workers had resident from start to end of a
job: `VmHWM` in `/proc/<pid>/status`, looked at every {every_ms:.0f} ms. Twenty times the rows must not need
more: a worker holds three shards, the parent holds the plan. And the CPU time of all processes, from which
what starting costs falls out when two jobs are held against each other.

    python benchmarks/memory.py

{table}

- Rows: the quickstart's definitions, repeated, in one Parquet file with row groups of 20,000.
- Model: the quickstart's tokenizer with a BERT of one layer, 16 wide, so that reading, tokenising and
  writing are most of the work. A job before the first one had made the program.
- Shards, shapes and batches: `auto`. Ratio: the last line over that of {STEADY_ROWS:,} rows.
- Machine: {machine}.
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
        measure(ROWS[0], folder)  # makes the program
        shutil.rmtree(folder / str(ROWS[0]))
        peaks = [measure(rows, folder) for rows in ROWS]
    table = show(peaks)
    print(table)
    REPORT.write_text(report(table))
    if max(compare(peaks)) > ALLOWED_GROWTH:
        raise SystemExit("memory grows with the rows")


if __name__ == "__main__":
    main()
