"""One finding of the doctor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from batchneuron.backends.survey import Survey

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do about it."""

    name: str
    state: State
    told: str
    """One line."""
    fix: str = ""
    """What to do, with the exact command where there is one; empty: nothing."""


Judge = Callable[[Survey], Check | None]
"""A check of a machine; None where it does not apply."""


def show_gib(size_bytes: int) -> str:
    """`1.5 GiB`."""
    return f"{size_bytes / (1 << 30):,.1f} GiB"


def show_count(number: int, noun: str) -> str:
    """`1 file`, `1,024 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
