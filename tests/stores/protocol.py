"""The whole job over a model bucket, and what must hold there at every moment.

`run_job` is the package's own, from opening the folder to removing old parts, with its run folder, its S3
store and its retries. In place of rows and models there are parts of three rows, which are prepared here; no
lease thread runs, since leases protect nothing. `Runner` takes any store, `make_program` the S3 store over a
model bucket.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron import open_run, run
from batchneuron.errors import BatchNeuronError
from batchneuron.ledger import finish, found, run_folder
from batchneuron.ledger.run_folder import FINGERPRINT_KEY, REJECTED_KEY, draft_run
from batchneuron.ledger.sweep import sweep_folder
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.planning.forecast import Forecast
from batchneuron.planning.plan import Plan, cut_shards
from batchneuron.planning.prepare import Prepared
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.spec.parse import parse_spec
from batchneuron.stages.write import WrittenPart
from batchneuron.stores import s3
from batchneuron.stores.s3 import S3Store
from batchneuron.stores.s3_requests import S3Requests
from batchneuron.tasks import OPTIONS
from batchneuron.watch import Watch
from batchneuron.workers.events import PartDone, StageSeconds
from tests.planning.test_plan import make_inventory
from tests.stores.explore import Process, Program, Violation
from tests.stores.model_bucket import Call, Objects

ROWS = 3
OUT = "s3://bucket/run"
MANIFEST = "run/.batchneuron/manifest.json"
RUN = "run/.batchneuron/run.json"
ATTEMPT = "batchneuron.attempt"
_NOTHING_COMPILED: Any = SimpleNamespace(artifacts=())
EXPECTED_REFUSALS = (
    *("holds another run", "overwritten by another", "has begun a new run here"),
    "comes and goes",  # eight answers to one DELETE were lost
)
"""What a runner may end with where another one overwrites."""


def make_plan(shards: int) -> Plan:
    """Shards of three rows."""
    shard_rows = cut_shards(make_inventory([[ROWS] * shards]), ROWS)
    return Plan(shard_rows, Ladder((Shape(1, 8),)), 7.5, Forecast(0.25, 0.2, None))


@cache
def make_spec(job: str) -> Any:
    """The spec of a job; two jobs differ in their fingerprint."""
    text = f"task: text-classification\ninput: {{path: in}}\nname: {job}\noutput: {{path: '{OUT}'}}\n"
    return parse_spec(text + "backend: {precision: float32, kind: torch}\n", "job.yaml", (), OPTIONS)


@dataclass(frozen=True)
class Order:
    """What is read of a work order."""

    record: Any
    spec: Any
    artifacts: tuple[()] = ()


class Bytes:
    """A scratch file in memory, as far as a store looks at one."""

    def write_bytes(self, content: bytes) -> None:
        self.content = content

    def stat(self) -> Any:
        return SimpleNamespace(st_size=len(self.content))

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Nothing is on disk."""


class NoScratch:
    """No local disk: a crash takes it along."""

    def prepare(self) -> None:
        """Nothing is left there."""

    def name_file(self, attempt: str) -> Bytes:
        return Bytes()

    def keep(self, name: str, draft: Any) -> str:
        return "nowhere"

    def take_kept(self, wanted: str) -> tuple[()]:
        return ()


class NoClaims:
    """Nobody is told anything."""

    is_overwritten = False

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> NoClaims:
        return self

    def __exit__(self, *_: object) -> None: ...

    def note(self, part: PartDone) -> None: ...


@cache
def make_part(fingerprint: str, attempt: str) -> bytes:
    """A Parquet file of three rows, whose footer says whose it is."""
    said = {FINGERPRINT_KEY: fingerprint, REJECTED_KEY: "0", ATTEMPT: attempt}
    file = io.BytesIO()
    pq.write_table(pa.table({"x": [0] * ROWS}).replace_schema_metadata(said), file)
    return file.getvalue()


@dataclass(frozen=True)
class Runner:
    """One process that runs a job in a store."""

    store: Any
    name: str
    draw_id: Callable[[], str]
    say: Callable[[str], None]
    """Told the name of each part that it takes for committed."""
    forget: Callable[[str], None] = lambda _: None
    """Told all that the runner goes on with, when it has opened the folder, and after each part."""

    def run(self, job: str, shards: int = 2, *, overwrite: bool = False) -> str:
        """`done`, or what it was refused with."""
        planned, spec, fingerprint = make_plan(shards), make_spec(job), Fingerprint({"job": job})
        nothing = dict.fromkeys(field.name for field in fields(Prepared))
        backend = SimpleNamespace(facts=SimpleNamespace(missing_compiler=None))
        prepared = Prepared(**{**nothing, "spec": spec, "fingerprint": fingerprint, "backend": backend})
        order: Any = Order(draft_run(fingerprint, planned, {}), spec)
        built = open_run._Built(prepared, order, planned, None, _NOTHING_COMPILED)  # type: ignore[arg-type]
        unique = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=self.draw_id()))
        with contextlib.ExitStack() as stack:
            enter = stack.enter_context
            enter(mock.patch.multiple(open_run, open_store=lambda _: self.store, _build_new=lambda *_: built))
            enter(mock.patch.multiple(run, prepare=lambda *_, **__: prepared, uuid=unique))
            enter(mock.patch.object(run, "open_engine", lambda *_: SimpleNamespace(run=self._commit_all)))
            enter(mock.patch.object(s3, "uuid", unique))
            try:
                summary = run.run_job(spec, overwrite=overwrite, watch=self._watch())
            except BatchNeuronError as error:
                return str(error)
            return "done" if summary.rows == ROWS * shards else f"{summary.rows} rows"

    def _watch(self) -> Watch:
        known: list[str] = []

        def learn(what: str) -> None:
            known.append(what)
            self.forget(" ".join(known))

        return Watch(
            on_open=lambda opened: learn(
                f"{opened.order.record} {[shard.index for shard in opened.missing]}"
            ),
            on_event=lambda event: learn(str(event)),
        )

    def _commit_all(self, order: Order, shards: Any, listener: Any, *_: object) -> None:
        """The engine: commits the missing parts, one after the other."""
        for shard in shards:
            attempt = f"{self.name}.{order.record.generation}"
            content = make_part(order.record.fingerprint, attempt)
            path, digest = self.store.scratch_file(attempt), hashlib.sha256(content).hexdigest()
            path.write_bytes(content)
            said = {FINGERPRINT_KEY: order.record.fingerprint, REJECTED_KEY: "0", ATTEMPT: attempt}
            part = WrittenPart(path, len(content), digest, said)
            created = run_folder.RunFolder(self.store).commit_part(order.record, shard, part)
            self.say(run_folder.part_name(order.record, shard.index))
            counts = (ROWS, 0, 0, 1, 1, len(content), digest, created)
            listener(PartDone(shard.index, *counts, seconds=StageSeconds()))


def make_program(
    job: str, shards: int = 2, *, overwrite: bool = False, store: type[S3Store] = S3Store
) -> Program:
    """A runner of a job over the model bucket: `batchneuron run`, `--overwrite` if asked for."""

    def program(process: Process) -> str:
        requests = S3Requests(OUT, lambda: process.client, rest=lambda _: None)
        opened = process.remember(store(requests, "bucket", "run", NoScratch()))  # type: ignore[arg-type]
        runner = Runner(opened, process.name, process.draw_id, process.say, process.forget)
        return runner.run(job, shards, overwrite=overwrite)

    return program


def sweep(process: Process) -> str:
    """A program: `batchneuron gc`."""
    requests = S3Requests(OUT, lambda: process.client, rest=lambda _: None)
    store = process.remember(S3Store(requests, "bucket", "run", NoScratch()))  # type: ignore[arg-type]
    with mock.patch.object(found, "open_store", lambda _: store):
        sweep_folder(OUT)
    return "done"


@contextlib.contextmanager
def simple_world() -> Iterator[None]:
    """What all programs share: no machine to ask, a clock that stands still, and no threads."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(
            mock.patch.multiple(
                open_run,
                _verify=lambda *_: None,
                _compile=lambda *_: _NOTHING_COMPILED,
                _check=lambda *_: None,
                _count_workers=lambda _: 0,
                make_order=lambda prepared, _, record: Order(record, prepared.spec),
            )
        )
        enter(mock.patch.object(run, "Claims", NoClaims))
        enter(mock.patch.object(run, "time", SimpleNamespace(perf_counter=lambda: 0.0)))
        enter(mock.patch.object(run, "_Ledger", partial(run._Ledger, started=0.0)))
        for module in (s3, finish):  # one after the other: a program is deterministic
            enter(mock.patch.object(module, "map_at_once", map))
        yield


def is_there(objects: Objects, call: Call) -> bool:
    """Settled where nobody overwrites: what is created stays, as `check_nothing_changes` sees to."""
    return call.verb != "LIST" and call.key in objects


def is_plan(objects: Objects, call: Call) -> bool:
    """Settled where somebody overwrites: a plan's name is its content, and a report's its runner."""
    return is_there(objects, call) and ("/plan-" in call.key or "/progress/" in call.key)


# What must hold


def generation_of(objects: Objects, key: str) -> int:
    """Of the run that a part was made for, by the attempt that made it."""
    return int(dict(objects[key].metadata)["attempt"].rpartition(".")[2])


def check_manifest(objects: Objects) -> None:
    """Whenever there is a manifest, its parts are there, have its digests, and hold each row once."""
    if MANIFEST not in objects:
        return
    manifest = json.loads(objects[MANIFEST].body)
    at = 0
    for part in manifest["parts"]:
        key = f"run/data/{part['name']}"
        if key not in objects:
            raise Violation(f"the manifest lists {part['name']}, which is not there")
        body = objects[key].body
        if (hashlib.sha256(body).hexdigest(), len(body)) != (part["sha256"], part["size_bytes"]):
            raise Violation(f"{part['name']} is not what the manifest says")
        if generation_of(objects, key) != manifest["generation"]:
            raise Violation(f"{part['name']} is of another run than the manifest")
        if part["row_lo"] != at:
            raise Violation(f"{part['name']} does not begin with row {at}")
        at = part["row_hi"]
    if at != manifest["rows"]:
        raise Violation("the manifest does not list all rows")


def check_plan(objects: Objects) -> None:
    """Whenever there is a run, its plan is there."""
    if RUN in objects and f"run/.batchneuron/{read_plan_name(objects[RUN].body)}" not in objects:
        raise Violation("the plan of the run is gone")


@cache
def read_plan_name(run: bytes) -> str:
    """What `run.json` says."""
    return str(json.loads(run)["plan"])


def check_ledger(objects: Objects) -> None:
    """Whatever has happened, what the ledger names is there."""
    check_plan(objects)
    check_manifest(objects)


def check_parts(before: Objects, after: Objects) -> None:
    """A part is never replaced, and goes only once a newer run's manifest is there."""
    for key, stored in before.items():
        if not key.startswith("run/data/") or after.get(key) == stored:
            continue
        if key in after:
            raise Violation(f"{key} was replaced")
        listed = json.loads(before[MANIFEST].body) if MANIFEST in before else {"generation": 0}
        if listed["generation"] <= generation_of(before, key):
            raise Violation(f"{key} was removed, and no newer run is complete")


def check_nothing_changes(before: Objects, after: Objects) -> None:
    """Where nobody overwrites, what is there stays."""
    for key, stored in before.items():
        if after.get(key) != stored:
            raise Violation(f"{key} {'was replaced' if key in after else 'was removed'}")


def check_acknowledged(objects: Objects, name: Any) -> None:
    """A part that a runner takes for committed is there, unless its run was overwritten."""
    if f"run/{name}" not in objects and MANIFEST not in objects:
        raise Violation(f"{name} was acknowledged, and is not there")


def check_end(objects: Objects, outcomes: tuple[str, ...]) -> None:
    """All have ended: the run that `run.json` names is complete, and nobody failed who was not refused."""
    for outcome in outcomes:
        if outcome != "done" and not any(refusal in outcome for refusal in EXPECTED_REFUSALS):
            raise Violation(f"a runner ended with: {outcome}")
    now = json.loads(objects[RUN].body)
    manifest: Mapping[str, Any] = json.loads(objects[MANIFEST].body) if MANIFEST in objects else {}
    if (manifest.get("generation"), manifest.get("fingerprint")) != (now["generation"], now["fingerprint"]):
        raise Violation("all have ended, and the run is not complete")
