"""What the host spends on a row, and whether it keeps simulated devices busy.

    python benchmarks/host_path.py [MODEL_FOLDER]

A device is simulated by sleeping for as long as a NeuronCore of an inf2.xlarge would compute, so that no
accelerator is needed to see what the host adds. Everything else is the real thing: reading, tokenising,
gathering, padding, decoding, writing, the worker's threads. Writes the figures to `benchmarks/host_path.md`.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
os.environ.update({"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"})

import multiprocess  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from batchneuron.backends.backend import Backend, BackendFacts  # noqa: E402
from batchneuron.ledger.run_folder import RunFolder, draft_run  # noqa: E402
from batchneuron.planning.cost import DeviceCost, ShapeCost, estimate_cost  # noqa: E402
from batchneuron.planning.plan import Plan, Shard  # noqa: E402
from batchneuron.planning.prepare import make_order, make_plan, prepare  # noqa: E402
from batchneuron.planning.shapes import Shape  # noqa: E402
from batchneuron.sources import open_source  # noqa: E402
from batchneuron.spec.parse import parse_spec  # noqa: E402
from batchneuron.spec.sections import JobSpec  # noqa: E402
from batchneuron.stages.decode import decode  # noqa: E402
from batchneuron.stages.encode import encode  # noqa: E402
from batchneuron.stages.execute import execute  # noqa: E402
from batchneuron.stages.runner import Runner  # noqa: E402
from batchneuron.stages.write import write_part  # noqa: E402
from batchneuron.stores import open_store  # noqa: E402
from batchneuron.tasks import OPTIONS, open_task  # noqa: E402
from batchneuron.workers.case import Assignment  # noqa: E402
from batchneuron.workers.work_order import WorkOrder  # noqa: E402
from batchneuron.workers.worker import Inbox, run_shards  # noqa: E402

QUICKSTART = REPOSITORY / "jobs/quickstart"
REPORT = Path(__file__).with_suffix(".md")
ROWS, SHARD_ROWS, REPEATS = 12_288, 4_096, 4
TASKS = ("feature-extraction", "text-classification")
CORES = 2
# distilbert-base-uncased, 16x128, both cores of an inf2.xlarge: 5,307.88 rows/s, p50 6.01 ms, and
# 0.58 ms for one row (inf2-performance.rst of the Neuron SDK, February 2026).
INF2 = DeviceCost(per_call_s=0.0002, flop_per_s=3.1e13)
DISTILBERT = {"n_layers": 6, "dim": 768}
# Tokens of 63,666 package descriptions, by MiniLM's tokenizer: mean 93.
PERCENTILES = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 99.9, 100)
TOKENS = (12, 21, 33, 41, 54, 76, 111, 160, 199, 308, 691, 3000)
WORDS_PER_TOKEN = 0.72  # of the quickstart's definitions


@dataclass(slots=True)
class SleepingExecutable:
    """Sleeps as long as a core would compute, and gives numbers out of a pool."""

    shape: Shape
    latency_s: float
    pool: Any
    """float32 [n, width]"""
    input_names: tuple[str, ...] = ("input_ids", "attention_mask")
    calls: int = 0

    @property
    def least_rows(self) -> int:
        """All that the shape has."""
        return self.shape.batch_size

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """Outputs [B, width]."""
        if self.latency_s:
            time.sleep(self.latency_s)
        start = self.calls * 37 % (len(self.pool) - self.shape.batch_size)
        self.calls += 1
        return (self.pool[start : start + self.shape.batch_size].copy(),)


@dataclass(frozen=True, slots=True)
class SimulatedBackend:
    """A backend that is planned for as a NeuronCore is."""

    real: Backend

    @property
    def facts(self) -> BackendFacts:
        """Those of the real one, with the core's cost."""
        return replace(self.real.facts, cost=INF2, batch_slots=2048)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@dataclass(frozen=True, slots=True)
class Job:
    """A planned job, as it goes to a worker's process."""

    order: WorkOrder
    plan: Plan
    cost: ShapeCost

    def open_runner(self, *, sleeps: bool, on_batch: Callable[[int], None] = lambda _: None) -> Runner:
        """A runner on a simulated core."""
        order = self.order
        task = open_task(order.request.task, order.request.options, order.request.model)
        width = order.request.model.hidden_size
        if order.request.task == "text-classification":
            width = len(order.request.model.labels)
        pool = np.random.default_rng(0).standard_normal((4096, width), dtype=np.float32)
        pool /= np.linalg.norm(pool, axis=1, keepdims=True)
        folder = RunFolder(open_store(order.spec.output.path))
        folder.store.prepare()
        return Runner(
            order=order,
            reader=open_source(order.spec.input).open_reader(order.read_schema),
            encoder=task.open_encoder(),
            task=task,
            executables=tuple(
                SleepingExecutable(shape, self.latency_s(shape) if sleeps else 0.0, pool)
                for shape in order.ladder.shapes
            ),
            spills=False,
            folder=folder,
            on_batch=on_batch,
        )

    def latency_s(self, shape: Shape) -> float:
        """What a batch takes on a core."""
        return self.cost.call_s(shape.batch_size, shape.sequence_length)


def write_texts(folder: Path) -> None:
    """Rows of words from the quickstart's definitions, as long as package descriptions are."""
    words = " ; ".join(pq.read_table(QUICKSTART / "glosses.parquet")["definition"].to_pylist()).split()
    random = np.random.default_rng(0)
    tokens = np.interp(random.uniform(0, 100, ROWS), PERCENTILES, TOKENS)
    texts = []
    for count in np.maximum(1, (tokens - 2) * WORDS_PER_TOKEN).astype(int).tolist():
        start = int(random.integers(0, len(words) - count))
        texts.append(" ".join(words[start : start + count]))
    folder.mkdir()
    table = pa.table({"id": np.arange(ROWS), "text": texts})
    for number in range(REPEATS):
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=SHARD_ROWS)


def plan_job(task: str, model: Path, folder: Path) -> Job:
    """The task over the texts."""
    spec: JobSpec = parse_spec(
        f"task: {task}\n"
        f"model: {{id: '{model}'}}\n"
        f"input: {{path: '{folder / 'rows'}', columns: {{text: text}}, keep: [id]}}\n"
        "backend: {kind: torch, precision: float32}\n"
        f"output: {{path: '{folder / task}', shard_rows: {SHARD_ROWS}}}\n",
        "job.yaml",
        (),
        OPTIONS,
    )
    prepared = prepare(spec)
    prepared = replace(prepared, backend=SimulatedBackend(prepared.backend))
    plan = make_plan(prepared)
    order = make_order(prepared, plan, draft_run(prepared.fingerprint, plan, {}))
    return Job(order, plan, estimate_cost(INF2, DISTILBERT))


@dataclass(slots=True)
class Stages:
    """CPU seconds by stage, of all threads of this process; the least of some shards."""

    rows: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, name: str, call: Callable[[], Any]) -> Any:
        """What the call gives."""
        started = time.process_time()
        result = call()
        self.seconds.setdefault(name, []).append(time.process_time() - started)
        return result

    def micros(self, *names: str) -> float:
        """Microseconds per row of these stages together."""
        return sum(1e6 * min(self.seconds[name]) / self.rows for name in names)


OURS = ("read", "encode", "pad", "decode", "write")
BARE = ("tokenizers alone", "Parquet alone")


def measure_stages(job: Job) -> Stages:
    """A shard's way, stage by stage, and what the two libraries need for their part of it."""
    runner, order = job.open_runner(sleeps=False), job.order
    stages = Stages(job.plan.shards[0].rows)
    backend = runner.encoder.tokenizer.transformers_tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    path = runner.folder.store.scratch_file("shard")
    for shard in job.plan.shards[:6]:
        rows = stages.measure("read", lambda: runner.reader.read(shard.slices))  # noqa: B023
        texts = rows.table["text"].to_pylist()
        backend.no_truncation()
        backend.no_padding()
        stages.measure("tokenizers alone", lambda: backend.encode_batch_fast(texts))  # noqa: B023
        data = stages.measure(
            "encode",
            lambda: encode(shard, rows, order.columns, runner.encoder, order.limit),  # noqa: B023
        )
        vocabulary = order.request.model.config["vocab_size"]
        executed = stages.measure(
            "pad",
            lambda: execute(data.items, order.ladder, runner.executables, vocabulary, lambda _: None),  # noqa: B023
        )
        table = stages.measure("decode", lambda: decode(data, executed, runner.task))  # noqa: B023
        stages.measure("write", lambda: write_part(table, path, {}, "zstd"))  # noqa: B023
        stages.measure("Parquet alone", lambda: write_bare(table, path))  # noqa: B023
    return stages


def write_bare(table: pa.Table, path: Path) -> None:
    """The same table by pyarrow with the same encodings; no checksums, no digest."""
    vectors = [f"{field.name}.list.element" for field in table.schema if pa.types.is_nested(field.type)]
    vectors = [name for name in vectors if name.startswith("embedding")]
    plain = [f"{name}" for name in table.schema.names if name != "embedding"]
    pq.write_table(
        table,
        path,
        compression="zstd",
        use_dictionary=plain,
        column_encoding=dict.fromkeys(vectors, "BYTE_STREAM_SPLIT"),
    )


@dataclass(frozen=True, slots=True)
class Busy:
    """What simulated cores did."""

    rows: int
    seconds: float
    share: float
    """Of the time in which a core would have computed."""
    cpus: float
    """That the workers had on average."""


def run_core(job: Job, shards: list[Shard], connection: Any) -> None:
    """A worker's process: its shards through its three threads."""
    calls: list[float] = []
    runner = job.open_runner(sleeps=True, on_batch=lambda _: calls.append(time.perf_counter()))
    inbox: Inbox = Inbox()
    for shard in shards:
        inbox.put(Assignment(shard))
    inbox.put(None)
    connection.send("ready")
    connection.recv()
    cpu_s = time.process_time()
    parts: list[Any] = []
    run_shards(runner, inbox, parts.append)
    executables = [one for one in runner.executables if isinstance(one, SleepingExecutable)]
    computed_s = sum(one.calls * one.latency_s for one in executables)
    # The first call's own time is before the first mark.
    wall_s = calls[-1] - calls[0] + computed_s / len(calls)
    rows = sum(part.rows for part in parts)
    connection.send((rows, wall_s, computed_s, time.process_time() - cpu_s))


def keep_busy(job: Job, cores: int) -> Busy:
    """All shards on some simulated cores, a process each."""
    context = multiprocess.get_context("spawn")
    pipes, processes = [], []
    for core in range(cores):
        ours, theirs = context.Pipe()
        shards = [shard for shard in job.plan.shards if shard.index % cores == core]
        processes.append(context.Process(target=run_core, args=(job, shards, theirs)))
        processes[-1].start()
        pipes.append(ours)
    for word in ("ready", "go"):
        for pipe in pipes:
            pipe.recv() if word == "ready" else pipe.send(word)
    told = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    longest_s = max(wall_s for _, wall_s, _, _ in told)
    return Busy(
        rows=sum(rows for rows, *_ in told),
        seconds=longest_s,
        share=sum(computed_s for _, _, computed_s, _ in told) / sum(wall_s for _, wall_s, _, _ in told),
        cpus=sum(cpu_s for *_, cpu_s in told) / longest_s,
    )


def stage_lines(stages: dict[str, Stages]) -> Iterator[str]:
    """The first table."""
    yield "| CPU µs per row | " + " | ".join(stages) + " |"
    yield "|---|" + "---:|" * len(stages)
    for name in (*OURS, *BARE):
        yield f"| {name} | " + " | ".join(f"{one.micros(name):.1f}" for one in stages.values()) + " |"
    sums = [(one.micros(*OURS), one.micros(*BARE)) for one in stages.values()]
    yield "| **the host, all stages** | " + " | ".join(f"{ours:.1f}" for ours, _ in sums) + " |"
    yield "| **over the two libraries alone** | " + " | ".join(f"{a / b:.2f}" for a, b in sums) + " |"


def busy_lines(found: dict[str, Busy], stages: dict[str, Stages]) -> Iterator[str]:
    """The second table."""
    yield f"| {CORES} simulated cores | rows/s | busy | CPUs the workers had | CPUs needed for 100% |"
    yield "|---|---:|---:|---:|---:|"
    for name, busy in found.items():
        rate = busy.rows / busy.seconds
        needed = stages[name].micros(*OURS) * rate / busy.share / 1e6
        yield f"| {name} | {rate:,.0f} | {busy.share:.1%} | {busy.cpus:.2f} | {needed:.2f} |"


def report(tables: str, job: Job, model: Path) -> str:
    """The page: what was done, on what, and what came out."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "?")
    shapes = " ".join(str(shape) for shape in job.order.ladder.shapes)
    return f"""# Host path

What the host spends on a row, and whether it keeps simulated devices busy.

    python benchmarks/host_path.py [MODEL_FOLDER]

{tables}

- CPU time, not the clock's: of all threads, the least of six shards of {SHARD_ROWS:,} rows, stage by
  stage in one process. Pad is gathering, padding and taking the outputs; its device answers at once.
- Alone: `encode_batch_fast` of tokenizers over the same texts, uncut and without reading the ids; and
  `pyarrow.parquet.write_table` of the same table with the same encodings, without page checksums, page
  index and SHA-256, which every part has.
- A simulated core sleeps for what a batch takes on a NeuronCore of an inf2.xlarge: 0.2 ms a call and
  {INF2.flop_per_s / 1e12:.0f} TFLOP/s, within a twentieth of Amazon's figures for distilbert (16x128:
  6.01 ms; 1x128: 0.58 ms). Sleeping releases the GIL, as the runtime's call does. Busy: the time a core would
  have computed, over the time from its first batch to its last. Needed: CPU time per row of the first
  table, at the speed of cores that are always busy. Where the load below is above the number of CPUs, others
  had the CPUs, and the busy share says that and little else.
- Texts: words of the quickstart's definitions, as long as 63,666 Debian package descriptions are (mean 93
  tokens); {ROWS:,} rows, {REPEATS} times. Model: {model.name}; shapes {shapes}.
- Machine: {cpu}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}.
"""


def main() -> None:
    """Measure, print, and write the page."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else QUICKSTART / "model"
    with tempfile.TemporaryDirectory(prefix="batchneuron-host-") as name:
        write_texts(Path(name) / "rows")
        jobs = {task: plan_job(task, model, Path(name)) for task in TASKS}
        stages = {task: measure_stages(job) for task, job in jobs.items()}
        lines = list(stage_lines(stages))
        print(*lines, "", sep="\n")
        busy = list(busy_lines({task: keep_busy(job, CORES) for task, job in jobs.items()}, stages))
        print(*busy, sep="\n")
        REPORT.write_text(report("\n".join([*lines, "", *busy]), jobs[TASKS[0]], model.resolve()))


if __name__ == "__main__":
    main()
