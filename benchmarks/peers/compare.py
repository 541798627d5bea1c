"""batchneuron beside its peers: rows per second, agreement, memory, set-up, in one interleaved run.

    python benchmarks/peers/compare.py              all workloads
    python benchmarks/peers/compare.py long short   some of them

Every run is a process of its own. The variants of a workload take turns, round after round. A run begins once
a probe of the machine's speed reaches 80 % of the best one, and counts where the probe after it does, too.
Writes `benchmarks/peers.json`; `table.py` shows it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from agreement import compare_predictions
from corpora import make_corpus
from environments import ROOT, make_environment
from machine import is_made_for_bfloat16, measure_limit, name_machine, probe
from models import make_model
from workloads import WORKLOADS, Variant, Workload

HERE = Path(__file__).parent
REPORT = HERE.parent / "peers.json"
ROUNDS = 2
MAX_TRIES = 3
QUIET = 0.8
PATIENCE = 20
TIMEOUT_S = 900


@dataclass(slots=True)
class Cell:
    """One variant on one workload: what its runs gave."""

    workload: str
    variant: str
    rows: int
    rows_per_s: list[float] = field(default_factory=list)
    setup_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    noisy_runs: int = 0
    slots_per_token: float | None = None
    tokens_per_row: float | None = None
    agreement: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


def main() -> None:
    """All rounds of all workloads asked for, and the report, in which each machine has a place of its own."""
    names = sys.argv[1:] or list(WORKLOADS)
    cells = [asdict(cell) for name in names for cell in run_workload(WORKLOADS[name])]
    reports = json.loads(REPORT.read_text()) if REPORT.exists() else []
    machine, limits = name_machine(), measure_limit()
    before = next((report for report in reports if report["machine"] == machine), None)
    if before is not None:
        reports.remove(before)
        cells = [cell for cell in before["cells"] if cell["workload"] not in names] + cells
        limits = {kind: max(best, before["limit_gflops"][kind]) for kind, best in limits.items()}
    reports.append({"machine": machine, "limit_gflops": limits, "cells": cells})
    REPORT.write_text(json.dumps(reports, indent=1) + "\n")
    subprocess.run([sys.executable, HERE / "table.py"], check=True)


def run_workload(workload: Workload) -> list[Cell]:
    """The cells of one workload, its variants in turns."""
    corpus, model = make_corpus(workload.corpus, workload.rows), make_model(workload.model)
    takes_part = [each for each in workload.variants if each.dtype == "float32" or is_made_for_bfloat16()]
    cells = {variant: Cell(workload.name, variant.name, workload.rows) for variant in takes_part}
    best_probe = max(probe() for _ in range(5))
    for turn in range(ROUNDS):
        for variant, cell in cells.items():
            order = make_order(workload, variant, corpus, model)
            for _ in range(MAX_TRIES):
                best_probe = wait_for_quiet(best_probe)
                result = run_variant(variant, order)
                after = probe()
                best_probe = max(best_probe, after)
                if "failure" in result or after >= QUIET * best_probe:
                    break
                cell.noisy_runs += 1
            note(cell, result)
            print(f"{workload.name} {variant.name} round {turn + 1}: {result}", file=sys.stderr)
    reference = prediction_file(workload, workload.variants[0])
    for variant, cell in cells.items():
        if cell.failure is None:
            cell.agreement = compare_predictions(reference, prediction_file(workload, variant))
    return list(cells.values())


def wait_for_quiet(best: float) -> float:
    """The best probe so far, once one comes near it; a machine that stays busy is not waited for for ever."""
    for _ in range(PATIENCE):
        now = probe()
        best = max(best, now)
        if now >= QUIET * best:
            break
        time.sleep(1)
    return best


def make_order(workload: Workload, variant: Variant, corpus: Path, model: Path) -> dict[str, Any]:
    """What a run is told."""
    output = prediction_file(workload, variant)
    return {
        "task": workload.task,
        "columns": workload.columns,
        "options": workload.options,
        "labels": workload.options.get("candidate_labels"),
        "model": str(model),
        "input": str(corpus),
        "output": str(output if variant.engine != "batchneuron" else output.with_suffix("")),
        "max_tokens": workload.max_tokens,
        "shard_rows": -(-workload.rows // workload.our_shards),
        "batch_rows": workload.peer_batch_rows,
        "engine": variant.engine,
        "dtype": variant.dtype,
        "backend": variant.backend,
    }


def prediction_file(workload: Workload, variant: Variant) -> Path:
    """Where a variant's predictions go."""
    return ROOT / "predictions" / workload.name / f"{variant.name.replace(' ', '-')}.parquet"


def run_variant(variant: Variant, order: dict[str, Any]) -> dict[str, Any]:
    """What the process printed, with its peak of memory; or how it failed."""
    python = sys.executable if variant.engine == "batchneuron" else make_environment(variant.environment)
    script = HERE / ("ours.py" if variant.engine == "batchneuron" else "peer.py")
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "XDG_CACHE_HOME": str(ROOT / "cache"),
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONPATH": str(HERE),
    }
    log = ROOT / "last.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [python, script, json.dumps(order)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            text=True,
        )
        peak = Peak(process.pid)
        try:
            printed, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"failure": f"not done after {TIMEOUT_S} s"}
    if process.returncode:
        return {"failure": f"exit code {process.returncode}: {log.read_text()[-400:]}"}
    return {**json.loads(printed.strip().splitlines()[-1]), "peak_mib": peak.stop_mib()}


class Peak(threading.Thread):
    """Watches the memory of a process and all its children: proportional set size, summed."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self._peak, self._is_over = psutil.Process(pid), 0, threading.Event()
        self.start()

    def run(self) -> None:
        """Look every two seconds: each look costs 20 ms of CPU a process. Shared pages are counted once."""
        while not self._is_over.wait(2.0):
            total = 0
            try:
                for each in (self._process, *self._process.children(recursive=True)):
                    total += each.memory_full_info().pss
            except psutil.Error:
                continue
            self._peak = max(self._peak, total)

    def stop_mib(self) -> float:
        """The most that was seen, in MiB."""
        self._is_over.set()
        self.join()
        return round(self._peak / 2**20)


def note(cell: Cell, result: dict[str, Any]) -> None:
    """Add a run to its cell."""
    if "failure" in result:
        cell.failure = result["failure"]
        return
    cell.rows_per_s.append(round(result["rows"] / result["work_s"], 2))
    cell.setup_s.append(round(result["setup_s"], 2))
    cell.peak_mib.append(result["peak_mib"])
    cell.slots_per_token = result.get("slots_per_token", cell.slots_per_token)
    cell.tokens_per_row = result.get("tokens_per_row", cell.tokens_per_row)


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
