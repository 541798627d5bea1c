"""The jobs and fleets that are simulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from bucket import Traffic
from fleet import Fleet
from workload import BERT_LARGE, INF2, expect_row_s, make_lengths

from batchneuron.planning.cost import estimate_cost

SHARD_SECONDS = (5, 10, 20, 40, 60, 120, 240, 480, 960)
_MOST_SHARDS = 50_000
RECLAIMS = 0.05


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulated run."""

    group: str
    name: str
    rows: int
    shard_rows: int
    fleet: Fleet
    traffic: Traffic = field(default_factory=Traffic)
    seed: int = 1

    @property
    def key(self) -> str:
        """What `run.py` takes, and what stands in the report."""
        return f"{self.group}/{self.name}"


def list_scenarios() -> tuple[Scenario, ...]:
    """All of them, the quick ones of each group first."""
    row_s = expect_row_s(make_lengths(), estimate_cost(INF2, BERT_LARGE))
    return (*_list_sizes(), *_list_shard_seconds(row_s), *_list_hazards(), *_list_joins())


def _list_sizes() -> Iterator[Scenario]:
    sizes = (
        ("1 core, 10^8 rows", 10**8, 2 * 10**4, Fleet(1, 1)),
        ("24 cores, 10^9 rows", 10**9, 2 * 10**4, Fleet(1)),
        ("1,008 cores, 10^9 rows", 10**9, 2 * 10**4, Fleet(42)),
        ("1,008 cores, 10^10 rows", 10**10, 10**5, Fleet(42)),
        ("10,008 cores, 10^9 rows", 10**9, 10**4, Fleet(417)),
        ("10,008 cores, 10^10 rows", 10**10, 10**5, Fleet(417)),
    )
    for name, rows, shard_rows, fleet in sizes:
        yield Scenario("size", name, rows, shard_rows, fleet)
        reclaimed = replace(fleet, reclaims_per_h=RECLAIMS)
        yield Scenario("size", f"{name}, reclaims", rows, shard_rows, reclaimed)


def _list_shard_seconds(row_s: float) -> Iterator[Scenario]:
    """An hour of work for each core, cut ever coarser: undisturbed, and in a market that takes much back."""
    for name, fleet in (("", Fleet(1)), (", 30 % reclaimed an hour", Fleet(10, reclaims_per_h=0.3))):
        rows = int(3600 * fleet.all_cores / row_s)
        for seconds in SHARD_SECONDS:
            shard_rows = int(seconds / row_s)
            if rows / shard_rows <= _MOST_SHARDS:
                yield Scenario(
                    "shard", f"{fleet.all_cores:,} cores, {seconds} s{name}", rows, shard_rows, fleet
                )


def _list_hazards() -> Iterator[Scenario]:
    rows, shard_rows, calm = 24 * 10**7, 2 * 10**4, Fleet(10)
    fleets = {
        "calm": calm,
        "5 % reclaimed an hour, all with notice": replace(calm, reclaims_per_h=RECLAIMS, noticed_share=1.0),
        "5 % reclaimed an hour, none with notice": replace(calm, reclaims_per_h=RECLAIMS, noticed_share=0.0),
        "30 % reclaimed an hour": replace(calm, reclaims_per_h=0.3),
        "a fifth of the machines at half speed": replace(calm, slow_share=0.2, slow_factor=2.0),
        "starts of 2 to 10 minutes": replace(calm, pull_s=300.0, start_spread=0.6),
    }
    for name, fleet in fleets.items():
        yield Scenario("hazard", name, rows, shard_rows, fleet)
    slow = Traffic(get_s=0.1, put_s=0.25, list_s=0.4)
    yield Scenario("hazard", "S3 four times slower", rows, shard_rows, calm, slow)
    tight = Traffic(reads_per_s=55, writes_per_s=35)
    yield Scenario("hazard", "S3 takes a hundredth of the requests", rows, shard_rows, calm, tight)


def _list_joins() -> Iterator[Scenario]:
    """The same command on many machines, none of which knows its number."""
    for machines in (2, 10, 42):
        rows = 24_000_000 * machines
        for has_portions in (True, False):
            name = f"{machines} machines, {'portions' if has_portions else 'no portions'}"
            yield Scenario("join", name, rows, 2 * 10**4, Fleet(machines, has_portions=has_portions))
