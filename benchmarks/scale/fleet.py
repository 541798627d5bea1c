"""The machines of a run: how many, how they start, and what becomes of them."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fleet:
    """Machines that are alike, and what befalls them."""

    machines: int = 1
    cores: int = 24
    """Of each: one worker on every core."""
    launch_s: float = 60.0
    """From asking for a machine to having it; not billed."""
    pull_s: float = 90.0
    """Boot, and the pull of a container image of some GiB."""
    open_s: float = 20.0
    """Imports, the plan of 10^5 shards, compiled programs from S3."""
    load_s: float = 40.0
    """Loading eight executables on a core."""
    start_spread: float = 0.25
    """Each part of a start takes up to so much less or more."""
    reclaims_per_h: float = 0.0
    """Share of the machines that is taken away in an hour."""
    noticed_share: float = 0.5
    """Of the reclaims: told two minutes before; the others are gone at once."""
    notice_s: float = 120.0
    replace_s: float = 60.0
    """Until the replacement of a lost machine is asked for."""
    slow_share: float = 0.0
    slow_factor: float = 1.0
    """Of the machines, so many are so many times slower."""
    has_portions: bool = True
    """Whether each machine has a portion of its own, as the children of an AWS Batch array have."""

    @property
    def all_cores(self) -> int:
        """Of all machines."""
        return self.machines * self.cores


@dataclass(frozen=True, slots=True)
class Fate:
    """What one machine will meet."""

    billed_s: float
    """From when it was asked for, as all below: it boots."""
    opened_s: float
    """Its runner has prepared, and begins."""
    load_s: float
    """What each of its workers takes to get ready, on the mean."""
    slowness: float
    reclaimed_s: float
    """Infinite: never."""
    is_noticed: bool
    notice_s: float


def draw_fate(fleet: Fleet, dice: random.Random) -> Fate:
    """A machine's fate."""

    def vary(seconds: float) -> float:
        return seconds * dice.uniform(1 - fleet.start_spread, 1 + fleet.start_spread)

    billed_s = vary(fleet.launch_s)
    rate_per_s = fleet.reclaims_per_h / 3600
    return Fate(
        billed_s=billed_s,
        opened_s=billed_s + vary(fleet.pull_s) + vary(fleet.open_s),
        load_s=vary(fleet.load_s),
        slowness=fleet.slow_factor if dice.random() < fleet.slow_share else 1.0,
        reclaimed_s=billed_s + dice.expovariate(rate_per_s) if rate_per_s else float("inf"),
        is_noticed=dice.random() < fleet.noticed_share,
        notice_s=fleet.notice_s,
    )
