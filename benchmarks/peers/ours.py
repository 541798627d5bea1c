"""batchneuron over one corpus, in a process of its own; run by `compare.py`.

The same line of JSON as `peer.py`, and slots per real token. The artifacts are made by a first run over a few
rows; the work is timed from the first worker that is ready to the manifest.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batchneuron.open_run import open_run
from batchneuron.planning.prepare import prepare
from batchneuron.run import Watch, run_job
from batchneuron.spec.parse import parse_spec
from batchneuron.spec.sections import JobSpec
from batchneuron.tasks import OPTIONS
from batchneuron.workers.events import Event, WorkerReady

WARM_ROWS = 64


def main() -> None:
    """Compile, then time a whole run."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    run_job(make_spec(order, f"input.limit={WARM_ROWS}"))  # compiles
    open_run(prepare(make_spec(order)))  # holds the program against the reference at the shapes of this job
    ready: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, WorkerReady):
            ready.append(time.perf_counter())

    started = time.perf_counter()
    summary = run_job(make_spec(order), watch=Watch(on_event=listen))
    done = time.perf_counter()
    tokens = sum(part.tokens for part in summary.done_now)
    slots = sum(part.slots for part in summary.done_now)
    columns = ["label"] if order["task"] != "feature-extraction" else ["embedding"]
    rows = pq.read_table(Path(order["output"]) / "data").sort_by("_row")
    found = [
        name for name in ("embedding", "label", "labels", "answer", "entities") if name in rows.column_names
    ]
    pq.write_table(rows.select(found or columns), Path(order["output"]).with_suffix(".parquet"))
    print(
        json.dumps(
            {
                "rows": summary.rows,
                "work_s": done - ready[0],
                "setup_s": ready[0] - started,
                "slots_per_token": slots / max(1, tokens),
                "tokens_per_row": tokens / max(1, summary.rows),
            }
        )
    )


def make_spec(order: dict[str, Any], *overrides: str) -> JobSpec:
    """The job, in an empty output folder."""
    output = Path(order["output"])
    shutil.rmtree(output, ignore_errors=True)
    columns = ", ".join(f"{name}: {column}" for name, column in order["columns"].items())
    text = (
        f"task: {order['task']}\n"
        f"model: {{id: '{order['model']}'}}\n"
        f"input: {{path: '{order['input']}', columns: {{{columns}}}, keep: []}}\n"
        f"shapes: {{max_length: {order['max_tokens'] or 'null'}}}\n"
        f"options: {json.dumps(order['options'])}\n"
        f"backend: {{kind: cpu, precision: {order['dtype']}}}\n"
        f"output: {{path: '{output}', shard_rows: {order['shard_rows']}}}\n"
    )
    return parse_spec(text, "benchmark.yaml", overrides, OPTIONS)


if __name__ == "__main__":
    main()
