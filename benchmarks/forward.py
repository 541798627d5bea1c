"""How much of the engine's own speed a whole run keeps: the same batches, forward only, beside end to end.

    python benchmarks/forward.py [ROWS]

Forward only: each worker's process has its shards read, tokenised and gathered before the clock starts, and
throws away what comes back. End to end: from the first worker that is ready to the manifest. The two take
turns. Model and texts are those of `benchmarks/peers`. Writes the figures to `benchmarks/forward.md`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import multiprocess

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).parent / "peers")]
os.environ["HF_HUB_OFFLINE"] = "1"

from corpora import make_corpus  # noqa: E402
from environments import ROOT  # noqa: E402
from machine import name_machine  # noqa: E402
from models import MINILM_MAX_TOKENS, make_model  # noqa: E402

from batchneuron.backends.backend import Core  # noqa: E402
from batchneuron.engines import deal_cpus  # noqa: E402
from batchneuron.open_run import Opened, open_run  # noqa: E402
from batchneuron.planning.plan import Shard  # noqa: E402
from batchneuron.planning.prepare import prepare  # noqa: E402
from batchneuron.run import Watch, run_job  # noqa: E402
from batchneuron.spec.parse import parse_spec  # noqa: E402
from batchneuron.spec.sections import JobSpec  # noqa: E402
from batchneuron.stages.execute import Follow, run_batches  # noqa: E402
from batchneuron.stages.gather import gather  # noqa: E402
from batchneuron.stages.runner import open_runner  # noqa: E402
from batchneuron.tasks import OPTIONS  # noqa: E402
from batchneuron.workers.events import Event, WorkerReady  # noqa: E402
from batchneuron.workers.work_order import WorkOrder  # noqa: E402
from batchneuron.workers.worker import take_core  # noqa: E402

REPORT = Path(__file__).with_suffix(".md")
ROUNDS = 3
SHARDS_PER_WORKER = 3


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows per second of each round."""

    forward: tuple[float, ...]
    whole: tuple[float, ...]

    @property
    def kept(self) -> float:
        """The share of the engine's speed that a whole run has, by medians."""
        return statistics.median(self.whole) / statistics.median(self.forward)


def make_spec(rows: int, output: Path) -> JobSpec:
    """Embeddings of the long texts, in a few shards for each CPU."""
    shutil.rmtree(output, ignore_errors=True)
    shard_rows = -(-rows // (SHARDS_PER_WORKER * (os.cpu_count() or 1)))
    return parse_spec(
        "task: feature-extraction\n"
        f"model: {{id: '{make_model('minilm')}'}}\n"
        f"input: {{path: '{make_corpus('long', rows)}', columns: {{text: text}}, keep: []}}\n"
        f"shapes: {{max_length: {MINILM_MAX_TOKENS}}}\n"
        "backend: {kind: cpu}\n"
        f"output: {{path: '{output}', shard_rows: {shard_rows}}}\n",
        "forward.yaml",
        (),
        OPTIONS,
    )


def forward_only(order: WorkOrder, core: Core, shards: list[Shard], connection: Any) -> None:
    """A process with one core: all that is before the device, then the device alone, by the clock."""
    take_core(core)
    runner = open_runner(order, lambda _: None)
    ready = []
    for shard in shards:
        items = runner.encode(shard).data.items
        ready.append((items, gather(items.lengths, order.ladder, spills=runner.spills)))
    run_batches(ready[0][0], ready[0][1][:1], runner.executables, Follow())  # packs the weights
    connection.send("ready")
    connection.recv()
    started = time.perf_counter()
    for items, batches in ready:
        run_batches(items, batches, runner.executables, Follow())
    connection.send(time.perf_counter() - started)


def measure_forward(opened: Opened) -> float:
    """Rows per second of the engine alone, by the slowest process."""
    cores = deal_cpus(opened.prepared.backend.list_cores(), opened.workers)
    context = multiprocess.get_context("spawn")
    pipes = []
    for number, core in enumerate(cores):
        ours, theirs = context.Pipe()
        shards = [shard for shard in opened.missing if shard.index % len(cores) == number]
        context.Process(target=forward_only, args=(opened.order, core, shards, theirs), daemon=True).start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    return opened.plan.rows / max(pipe.recv() for pipe in pipes)


def measure_whole(spec: JobSpec) -> float:
    """Rows per second from the first worker that is ready to the manifest."""
    ready: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, WorkerReady):
            ready.append(time.perf_counter())

    summary = run_job(spec, watch=Watch(on_event=listen))
    return summary.rows / (time.perf_counter() - ready[0])


def measure(rows: int) -> Rates:
    """Both, in turns."""
    output = ROOT / "forward"
    open_run(prepare(make_spec(rows, output)))  # compiles, and holds the program against the reference
    forward, whole = [], []
    for _ in range(ROUNDS):
        forward.append(measure_forward(open_run(prepare(make_spec(rows, output)))))
        whole.append(measure_whole(make_spec(rows, output)))
        print(f"forward only {forward[-1]:.1f}, end to end {whole[-1]:.1f} rows/s", file=sys.stderr)
    return Rates(tuple(forward), tuple(whole))


def report(rates: Rates, rows: int) -> str:
    """The page."""
    lines = [
        f"| {name} | {statistics.median(runs):.1f} | {', '.join(f'{run:.1f}' for run in runs)} |"
        for name, runs in (("forward only", rates.forward), ("end to end", rates.whole))
    ]
    return f"""# End to end beside forward only

    python benchmarks/forward.py

| rows/s | median | runs |
|---|---:|---|
{chr(10).join(lines)}

**{rates.kept:.1%}** of the engine's own speed is left with reading, tokenising, decoding and writing.

- Forward only: the same batches in the same workers, everything before the device done before the clock
  starts, and what comes back thrown away; rows over the slowest process's time. End to end: from the first
  worker that is ready to the manifest, so that a worker that is ready later counts, too. Taken in turns.
- {rows:,} package descriptions, all-MiniLM-L6-v2, at most {MINILM_MAX_TOKENS} tokens.
- {name_machine()}.
"""


def main() -> None:
    """Measure, print, and write the page."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1536
    rates = measure(rows)
    REPORT.write_text(report(rates, rows))
    print(f"{rates.kept:.1%} kept")


if __name__ == "__main__":
    main()
