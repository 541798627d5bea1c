"""What a run folder costs beside the predictions: commits; listing and resuming a hundred thousand parts.

    python benchmarks/commit.py

S3 is moto on this machine, and for the listing a server that knows nothing but 100 pages: the figures are
what this side costs. A real bucket adds its own 20 to 100 ms to each request. Writes `benchmarks/commit.md`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pyarrow as pa
from moto.server import ThreadedMotoServer

from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import part_name
from batchneuron.ledger.run_record import Progress
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.planning.forecast import Forecast
from batchneuron.planning.plan import Plan, cut_shards
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.sources.source import Block, FileId, FileInventory, Inventory
from batchneuron.stores import open_store
from batchneuron.stores.store import Draft, Store
from batchneuron.workers.events import PartDone, StageSeconds
from batchneuron.workers.handout import HandOut

REPORT = Path(__file__).with_suffix(".md")
SIZES_BYTES = (64 << 10, 16 << 20)
COMMITS = 20
PARTS = 100_000
PAGE = 1_000


def name_part(index: int) -> str:
    """As run_folder.py names it."""
    return f"part-{index:05d}_of_{PARTS:05d}-7f3a9c1e.parquet"


def measure_commit(store: Store, size_bytes: int) -> float:
    """Seconds to publish a file that is written and hashed already; the median."""
    store.prepare()
    content = os.urandom(size_bytes)
    digest, taken_s = hashlib.sha256(content).hexdigest(), []
    for index in range(COMMITS):
        path = store.scratch_file(str(index))
        path.write_bytes(content)
        started = time.perf_counter()
        assert store.create(f"data/{size_bytes}-{index}", Draft(path, digest))
        taken_s.append(time.perf_counter() - started)
    return statistics.median(taken_s)


@cache
def make_page(start: int) -> bytes:
    """What S3 says of a thousand parts, and where it goes on."""
    entries = "".join(
        f"<Contents><Key>run/data/{name_part(index)}</Key><Size>4000000</Size>"
        '<LastModified>2026-11-22T00:00:00.000Z</LastModified><ETag>"0"</ETag>'
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for index in range(start, start + PAGE)
    )
    more = start + PAGE < PARTS
    token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
    told = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}"
    return f"<ListBucketResult>{told}</ListBucketResult>".encode()


class Pages(BaseHTTPRequestHandler):
    """A bucket with a hundred thousand parts, a thousand a page."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer ListObjectsV2."""
        query = parse_qs(urlsplit(self.path).query)
        body = make_page(int(query.get("continuation-token", ["0"])[0]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def measure_listing(store: Store) -> float:
    """Seconds to list `data/`."""
    started = time.perf_counter()
    assert len(store.list("data")) == PARTS
    return time.perf_counter() - started


def make_plan() -> Plan:
    """A hundred thousand shards of three rows, in a hundred files."""
    rows = 3
    blocks = tuple(Block(rows * number, rows, 100, number) for number in range(PARTS // 100))
    files = (FileInventory(FileId(f"/in/{number:03}.parquet", 10**6, "1"), blocks) for number in range(100))
    shards = cut_shards(Inventory(tuple(files), pa.schema([])), rows)
    return Plan(shards, Ladder((Shape(1, 8),)), 7.5, Forecast(0.25, 0.2, None))


def measure_resume(path: Path) -> dict[str, float]:
    """Seconds from an open process to the first shard, on a local disk with all parts but one, by step."""
    folder, plan = RunFolder(open_store(str(path))), make_plan()
    record = folder.create_run(Fingerprint({"task": "none"}), plan, {})
    content = b"x" * 16
    done = [PartDone(index, 3, 0, 0, 1, 1, 16, "0" * 64, True, StageSeconds()) for index in range(PARTS - 1)]
    for part in done:
        (path / part_name(record, part.shard)).write_bytes(content)
    folder.write_progress(record, Progress("0" * 12, 1.0, tuple(done)))
    taken_s: dict[str, float] = {}

    def time_step(name: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = call()
        taken_s[name] = time.perf_counter() - started
        return result

    read = time_step("read the plan", lambda: folder.read_plan(record))
    parts = time_step("list parts", lambda: folder.list_parts(record))
    time_step("hold sizes against reports", lambda: folder.require_sizes(record, read, parts))
    missing = tuple(shard for shard in read.shards if shard.index not in parts)
    assert time_step("hand out", lambda: HandOut(missing).take(None)).index == PARTS - 1
    return taken_s


def measure_local(folder: Path) -> tuple[list[float], float]:
    """Commits by size, and the listing, on a local disk."""
    commits = [measure_commit(open_store(str(folder / "out")), size) for size in SIZES_BYTES]
    data = folder / "many/data"
    data.mkdir(parents=True)
    for index in range(PARTS):
        (data / name_part(index)).touch()
    return commits, measure_listing(open_store(str(folder / "many")))


def measure_s3() -> tuple[list[float], float]:
    """The same with S3's protocol."""
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_REGION="us-east-1")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    os.environ["AWS_ENDPOINT_URL"] = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3").create_bucket(Bucket="bench")
    commits = [measure_commit(open_store("s3://bench/run"), size) for size in SIZES_BYTES]
    server.stop()
    for start in range(0, PARTS, PAGE):
        make_page(start)
    pages = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{pages.server_port}"
    return commits, measure_listing(open_store("s3://bench/run"))


def main() -> None:
    """Measure, and write the report."""
    with tempfile.TemporaryDirectory() as folder:
        local, s3 = measure_local(Path(folder)), measure_s3()
        resume = measure_resume(Path(folder) / "resumed")
    sizes = " | ".join(f"commit of {size >> 10:,} KiB" for size in SIZES_BYTES)
    rows = [
        f"| {name} | {' | '.join(f'{seconds * 1e3:.1f} ms' for seconds in commits)} | {listing:.2f} s |"
        for name, (commits, listing) in (("local disk, flushed", local), ("S3 protocol, this host", s3))
    ]
    note = (__doc__ or "").split("\n\n")[2].partition(" Writes")[0]
    text = "\n".join(
        (
            "# The cost of the run folder\n",
            f"`python benchmarks/commit.py`, {platform.machine()}, {os.cpu_count()} CPUs, Python "
            f"{platform.python_version()}; others were at work on it. {note}\n",
            f"| store | {sizes} | list {PARTS:,} parts |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Resuming a run of {PARTS:,} shards with one missing, local disk: {sum(resume.values()):.1f} s ("
            + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in resume.items())
            + "). With S3 the listing above takes the place of the local one.",
            "",
        )
    )
    REPORT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
