"""What a run folder costs beside the predictions: commits; listing, resuming and looking at 100,000 parts.

    python benchmarks/commit.py

S3 is moto on this machine, and for 100,000 parts a server that knows nothing but 100 pages and the ledger's
files: the figures are what this side costs. A real bucket adds its own 20 to 100 ms to each request.
Writes `benchmarks/commit.md`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pyarrow as pa
from moto.server import ThreadedMotoServer

from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import part_name
from batchneuron.ledger.run_record import Lease, Progress
from batchneuron.ledger.status import follow_run
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
RUNNERS = 10


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


class Pages(BaseHTTPRequestHandler):
    """A bucket with one run folder: its ledger's files, and its parts, a thousand a page."""

    protocol_version = "HTTP/1.1"
    parts: tuple[bytes, ...] = ()
    """What S3 says of them, page by page."""
    ledger: Mapping[str, bytes] = MappingProxyType({})
    """The other objects, by key."""

    def do_GET(self) -> None:
        """Answer ListObjectsV2 and GetObject."""
        where = urlsplit(self.path)
        query, key = parse_qs(where.query), where.path.removeprefix("/bench/")
        if "list-type" in query:
            token = int(query.get("continuation-token", ["0"])[0])
            body = self._list(query["prefix"][0], token)
        else:
            body = self.ledger.get(key, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.end_headers()
        self.wfile.write(body)

    def _list(self, prefix: str, page: int) -> bytes:
        if prefix == "run/data/":
            more = page + 1 < len(self.parts)
            token = f"<NextContinuationToken>{page + 1}</NextContinuationToken>" if more else ""
            return tell_page(self.parts[page], token)
        direct = (key for key in self.ledger if f"{key.rpartition('/')[0]}/" == prefix)
        return tell_page("".join(tell_object(key, len(self.ledger[key])) for key in direct).encode(), "")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def tell_object(key: str, size_bytes: int) -> str:
    """An object as a listing has it."""
    return (
        f"<Contents><Key>{key}</Key><Size>{size_bytes}</Size>"
        '<LastModified>2026-11-22T00:00:00.000Z</LastModified><ETag>"0"</ETag>'
        "<StorageClass>STANDARD</StorageClass></Contents>"
    )


def tell_page(entries: bytes, token: str) -> bytes:
    """A page as S3 gives it."""
    head = f"<ListBucketResult><IsTruncated>{str(bool(token)).lower()}</IsTruncated>{token}".encode()
    return head + entries + b"</ListBucketResult>"


def serve_pages(path: Path) -> str:
    """The address of a bucket that has a copy of the run folder at `path`, from now on."""
    names = sorted(entry.name for entry in os.scandir(path / "data"))
    told = [tell_object(f"run/data/{name}", 16) for name in names]
    Pages.parts = tuple("".join(told[at : at + PAGE]).encode() for at in range(0, len(told), PAGE))
    files = (file for file in (path / ".batchneuron").rglob("*") if file.is_file())
    Pages.ledger = {f"run/{file.relative_to(path)}": file.read_bytes() for file in files}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def make_plan() -> Plan:
    """A hundred thousand shards of three rows, in a hundred files."""
    rows = 3
    blocks = tuple(Block(rows * number, rows, 100, number) for number in range(PARTS // 100))
    files = (FileInventory(FileId(f"/in/{number:03}.parquet", 10**6, "1"), blocks) for number in range(100))
    shards = cut_shards(Inventory(tuple(files), pa.schema([])), rows)
    return Plan(shards, Ladder((Shape(1, 8),)), 7.5, Forecast(0.25, 0.2, None))


def make_run(path: Path) -> None:
    """The folder of a run, all parts there but one, as ten runners have left it."""
    folder, plan = RunFolder(open_store(str(path))), make_plan()
    record = folder.create_run(Fingerprint({"task": "none"}), plan, {})
    done = [PartDone(index, 3, 0, 0, 1, 1, 16, "0" * 64, True, StageSeconds()) for index in range(PARTS - 1)]
    for part in done:
        (path / part_name(record, part.shard)).write_bytes(b"x" * 16)
    for runner in range(RUNNERS):
        folder.write_progress(record, Progress(f"{runner:012}", 1.0, tuple(done[runner::RUNNERS])))
        folder.write_lease(record, Lease(f"{runner:012}", 1, (PARTS - 1,), f"host-{runner}", 1))


def measure_resume(location: str) -> dict[str, float]:
    """Seconds from an open process to the first shard, by step."""
    folder = RunFolder(open_store(location))
    record = folder.read_run()
    assert record is not None
    taken_s: dict[str, float] = {}

    def time_step(name: str, call: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = call()
        taken_s[name] = time.perf_counter() - started
        return result

    plan = time_step("read the plan", lambda: folder.read_plan(record))
    parts = time_step("list parts", lambda: folder.list_parts(record))
    time_step("hold sizes against reports", lambda: folder.require_sizes(record, plan, parts))
    missing = tuple(shard for shard in plan.shards if shard.index not in parts)
    assert time_step("hand out", lambda: HandOut(missing).take(None)).index == PARTS - 1
    return taken_s


def measure_looks(location: str) -> tuple[float, float]:
    """Seconds of `status`, and of each further look of `status --watch`."""
    taken_s, looks = [], follow_run(location, 0.0, lambda _: None)
    for _ in range(2):
        started = time.perf_counter()
        status = next(looks)
        taken_s.append(time.perf_counter() - started)
        assert status is not None and status.shards_done == PARTS - 1
    return taken_s[0], taken_s[1]


def start_moto() -> ThreadedMotoServer:
    """An S3 with an empty bucket, found the usual way."""
    os.environ.update(AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_REGION="us-east-1")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    os.environ["AWS_ENDPOINT_URL"] = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3").create_bucket(Bucket="bench")
    return server


def measure_commits(location: str) -> list[float]:
    """Seconds of a commit, by size."""
    return [measure_commit(open_store(location), size) for size in SIZES_BYTES]


def render_table(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """A table of stores."""
    return [
        f"| store | {' | '.join(head)} |",
        "|---|" + "---|" * len(head),
        *(f"| {name} | {' | '.join(row)} |" for name, row in rows.items()),
    ]


def main() -> None:
    """Measure, and write the report."""
    local, s3 = "local disk, flushed", "S3 protocol, this host"
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary)
        commits = {local: measure_commits(str(path / "out"))}
        moto = start_moto()
        commits[s3] = measure_commits("s3://bench/run")
        moto.stop()
        make_run(path / "run")
        os.environ["AWS_ENDPOINT_URL"] = serve_pages(path / "run")
        places = {local: str(path / "run"), s3: "s3://bench/run"}
        resumes = {name: measure_resume(place) for name, place in places.items()}
        looks = {name: measure_looks(place) for name, place in places.items()}
    steps = [*resumes[local], "in all", "`status`", "each further look of `status --watch`"]
    rows = {
        name: [f"{taken:.2f} s" for taken in (*each.values(), sum(each.values()), *looks[name])]
        for name, each in resumes.items()
    }
    note = (__doc__ or "").split("\n\n")[2].partition("\nWrites")[0]
    text = "\n".join(
        (
            "# The cost of the run folder\n",
            f"`python benchmarks/commit.py`, {platform.machine()}, {os.cpu_count()} CPUs, Python "
            f"{platform.python_version()}. {note}\n",
            *render_table(
                [f"commit of {size >> 10:,} KiB" for size in SIZES_BYTES],
                {name: [f"{taken * 1e3:.1f} ms" for taken in each] for name, each in commits.items()},
            ),
            f"\nA run of {PARTS:,} shards of which one is missing, with the reports and leases of {RUNNERS} "
            "runners: what it takes to resume it, step by step, and to look at it.\n",
            *render_table(steps, rows),
            "",
        )
    )
    REPORT.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
