"""A bucket as S3 bills it and slows it down, in memory: the store of every simulated runner.

Every request takes time and may be refused with 503 once a second has had its share; the time it took is
summed for the runner that asked, since a request of the real store returns when it has been answered.
"""

from __future__ import annotations

import random
from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import DATA, find_shard
from batchneuron.ledger.run_record import Lease, RunRecord
from batchneuron.stores.store import Draft, Entry

PAGE = 1_000  # keys of one answer to ListObjectsV2


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a request takes, and how many a second the prefix of a run takes."""

    get_s: float = 0.025
    put_s: float = 0.060
    list_s: float = 0.100
    """A page of 1,000 keys, read and parsed: benchmarks/commit.md has 0.03 s for this side of it."""
    spread: float = 0.5
    """Sigma of the logarithm: one request in a hundred takes three times as long."""
    reads_per_s: float = 5_500
    writes_per_s: float = 3_500
    first_pause_s: float = 0.2
    longest_pause_s: float = 30.0


@dataclass(slots=True)
class Bucket:
    """The objects of one run folder, and what was asked for them."""

    traffic: Traffic = field(default_factory=Traffic)
    random: random.Random = field(default_factory=random.Random)
    objects: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    """Names in each folder, in order."""
    tags: dict[str, Mapping[str, str]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    """Requests that were answered with 503, and sent again."""
    committed: dict[int, float] = field(default_factory=dict)
    """Shards whose part is there, and when it came: a runner gets them from the names, one by one."""
    listed: frozenset[int] = frozenset()
    """The same, as it was when it was listed for the last time."""
    _seconds: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def busiest(self) -> int:
        """Requests of the second that had most, reads and writes counted apart."""
        return max(self._seconds.values(), default=0)

    def add(self, name: str, content: bytes) -> None:
        """Put an object under a name, whether or not there is one."""
        if name not in self.objects:
            folder, _, file = name.rpartition("/")
            insort(self.folders.setdefault(folder, []), file)
        self.objects[name] = content

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        if self.objects.pop(name, None) is not None:
            folder, _, file = name.rpartition("/")
            self.folders[folder].remove(file)

    def answer(self, kind: str, start_s: float) -> float:
        """When a request that is sent at some moment has its answer."""
        traffic, is_write = self.traffic, kind in ("PUT", "DELETE")
        limit = traffic.writes_per_s if is_write else traffic.reads_per_s
        typical_s = {"PUT": traffic.put_s, "LIST": traffic.list_s}.get(kind, traffic.get_s)
        pause_s = traffic.first_pause_s
        while True:
            self.requests[kind] += 1
            second = ("write" if is_write else "read", int(start_s))
            self._seconds[second] += 1
            taken_s = typical_s * self.random.lognormvariate(0.0, traffic.spread)
            if self._seconds[second] <= limit:
                return start_s + taken_s
            self.refused += 1
            start_s += taken_s + self.random.uniform(0.0, pause_s)
            pause_s = min(traffic.longest_pause_s, 2 * pause_s)


@dataclass(slots=True)
class Client:
    """One runner's way to the bucket: a `Store` whose answers take simulated time."""

    bucket: Bucket
    now_s: float = 0.0
    """The runner's clock while it asks: set when it begins, moved by every answer."""
    location: str = "s3://simulated/run"

    def ask(self, kind: str, times: int = 1) -> None:
        """Wait for the answers to some requests, one after the other."""
        for _ in range(times):
            self.now_s = self.bucket.answer(kind, self.now_s)

    def prepare(self, wanted: str | None = None) -> None:
        """A bucket needs nothing."""

    def create(self, name: str, draft: Draft) -> bool:
        """Publish a part, unless the name is taken."""
        self.ask("PUT")
        if name in self.bucket.objects:
            self.ask("HEAD")
            return False
        self.bucket.add(name, b"")
        self.bucket.tags[name] = draft.tags
        return True

    def create_bytes(self, name: str, content: bytes) -> bool:
        """Publish some bytes, unless the name is taken."""
        self.ask("PUT")
        if name in self.bucket.objects:
            return False
        self.bucket.add(name, content)
        return True

    def replace_bytes(self, name: str, content: bytes) -> None:
        """Publish some bytes over what is there; its ETag is asked for first."""
        self.ask("HEAD")
        self.ask("PUT")
        self.bucket.add(name, content)

    def delete(self, name: str) -> None:
        """Remove an object."""
        self.ask("DELETE")
        self.bucket.remove(name)

    def delete_many(self, names: Sequence[str]) -> None:
        """Remove objects, a thousand with each request."""
        self.ask("DELETE", -(-len(names) // PAGE))
        for name in names:
            self.bucket.remove(name)

    def read(self, name: str) -> bytes | None:
        """An object's bytes."""
        self.ask("GET")
        return self.bucket.objects.get(name)

    def read_many(self, names: Sequence[str]) -> tuple[bytes | None, ...]:
        """Objects' bytes, one after the other; the real store asks for sixteen at once."""
        return tuple(self.read(name) for name in names)

    def read_footer(self, name: str) -> Mapping[str, str]:
        """What the footer of a part would say."""
        self.ask("HEAD")
        self.ask("GET")
        tags = self.bucket.tags[name]
        return {**{f"batchneuron.{key}": value for key, value in tags.items()}, "num_rows": tags["rows"]}

    def list(self, folder: str) -> tuple[Entry, ...]:
        """Objects of a folder, by name; a thousand a request."""
        names = self.bucket.folders.get(folder, [])
        self.ask("LIST", 1 + max(0, len(names) - 1) // PAGE)
        return tuple(Entry(name, 1 << 20) for name in names)


@dataclass(frozen=True, slots=True)
class SimulatedFolder(RunFolder):
    """The run folder of a bucket, which knows the committed shards without parsing 10^5 names each time."""

    store: Client

    def list_committed(self, record: RunRecord) -> frozenset[int]:
        """Shards whose part exists; the listing is asked for and paid for as ever."""
        bucket = self.store.bucket
        self.store.ask("LIST", 1 + max(0, len(bucket.committed) - 1) // PAGE)
        if len(bucket.listed) != len(bucket.committed):
            bucket.listed = frozenset(bucket.committed)
        return bucket.listed

    def write_lease(self, record: RunRecord, lease: Lease) -> None:
        """Say what a runner has in hand; each of them is on a host of its own."""
        RunFolder.write_lease(self, record, replace(lease, host=lease.slot))

    def note_commit(self, record: RunRecord, name: str, time_s: float) -> None:
        """Remember the shard whose part has just been created."""
        index = find_shard(record, name.removeprefix(f"{DATA}/"))
        if index is None:
            raise ValueError(f"{name} is no part of this run")
        self.store.bucket.committed[index] = time_s
