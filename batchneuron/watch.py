"""Watch: how a caller follows a run, and stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchneuron.errors import ParityError
from batchneuron.planning.plan import Shard
from batchneuron.programs.compile import CompileEvent
from batchneuron.workers.events import Event

if TYPE_CHECKING:
    from batchneuron.open_run import Opened


@dataclass(frozen=True, slots=True)
class Watch:
    """What is told, in the order of a run, and what is asked."""

    on_compile: Callable[[CompileEvent, int], None] = lambda _, __: None
    """What happens to a program, and how many there are in all."""
    on_check: Callable[[int], None] = lambda _: None
    """So many programs are going to be held against the reference."""
    on_fallback: Callable[[ParityError], None] = lambda _: None
    """Under `precision: auto` bfloat16 did not agree, so that the run takes float32."""
    on_open: Callable[[Opened], None] = lambda _: None
    on_event: Callable[[Event], None] = lambda _: None
    is_stopped: Callable[[], bool] = lambda: False
    sort_shards: Callable[[tuple[Shard, ...]], Sequence[Shard]] = lambda shards: shards
    """The order to do missing shards in; the output does not depend on it."""
