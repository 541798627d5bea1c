"""Progress for people: a bar on a terminal, a plain line every 30 seconds elsewhere, always on stderr.

Counts tokens, not rows: the longest rows go first, so that a count of rows would promise too much.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from batchneuron.errors import ParityError
from batchneuron.input_notes import list_notes
from batchneuron.open_run import Opened
from batchneuron.programs.compile import CompileEvent
from batchneuron.showing.render import count, render_parity, tell_uniform
from batchneuron.workers.events import (
    BatchDone,
    CoreRetired,
    Event,
    OthersSeen,
    PartDone,
    RoomAwaited,
    RowIsolated,
    WorkerLost,
)

_LINE_EVERY_S = 30.0
_SPEED_SPAN_S = 20.0
_WORTH_TELLING_S = 10.0


@dataclass(slots=True)
class Meter:
    """What is done and what is left, in tokens."""

    rows_left: int
    tokens_per_row: float
    rows_done: int = 0
    rows_elsewhere: int = 0
    """Done by other runners since this one began."""
    tokens_done: int = 0
    rejected: int = 0
    restarts: int = 0
    """Workers that died in the middle of their work."""
    throttled: int = 0
    """Answers of the store that asked to slow down."""
    isolated: int = 0
    """Rows that were found to kill them."""
    _tokens_of_done_rows: int = 0
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, event: Event, now_s: float) -> None:
        """Count an event."""
        match event:
            case BatchDone(tokens=tokens):
                self.tokens_done += tokens
                while self._marks and now_s - self._marks[0][0] >= _SPEED_SPAN_S:
                    self._marks.popleft()
                self._marks.append((now_s, self.tokens_done))
            case PartDone():
                self.rows_done += event.rows
                self.rejected += event.rejected
                self.throttled += event.throttled
                self._tokens_of_done_rows += event.tokens
            case OthersSeen():
                self.rows_elsewhere = event.rows_done
            case WorkerLost():
                self.restarts += 1
            case RowIsolated():
                self.isolated += 1
            case _:
                pass

    @property
    def tokens_total(self) -> float:
        """All tokens: those of finished rows as counted, the others as the sample predicts."""
        per_row = self.tokens_per_row
        if self.rows_done:
            per_row = self._tokens_of_done_rows / self.rows_done
        rows = max(0, self.rows_here - self.rows_done)
        return max(self.tokens_done, self._tokens_of_done_rows + rows * per_row, 1.0)

    @property
    def rows_here(self) -> int:
        """Rows that are this runner's to do, as far as is known."""
        return self.rows_left - self.rows_elsewhere

    @property
    def share(self) -> float:
        """Done, 0 to 1."""
        return min(1.0, self.tokens_done / self.tokens_total)

    @property
    def tokens_per_s(self) -> float:
        """Over the last twenty seconds."""
        if len(self._marks) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(last_s - first_s, 1e-6)

    @property
    def rows_per_s(self) -> float:
        """At the present speed, for rows of mean length."""
        mean = self.tokens_total / max(1, self.rows_here)
        return self.tokens_per_s / mean if mean else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds until the end at the present speed; None before there is one."""
        return (self.tokens_total - self.tokens_done) / self.tokens_per_s if self.tokens_per_s else None

    def line(self) -> str:
        """All of it in one line."""
        eta = f", {_clock(self.left_s)} left" if self.left_s is not None else ""
        rejected = f", {self.rejected:,} rejected" if self.rejected else ""
        rejected += f", {count(self.isolated, 'row')} isolated" if self.isolated else ""
        rejected += f", {count(self.restarts, 'restart')}" if self.restarts else ""
        rejected += f", slowed down by the store {self.throttled:,} times" if self.throttled else ""
        others = f", {self.rows_elsewhere:,} by other runners" if self.rows_elsewhere else ""
        return (
            f"{self.share:.0%}, {self.rows_done:,} of {self.rows_here:,} rows written{others}, "
            f"{self.rows_per_s:,.0f} rows/s{rejected}{eta}"
        )


class Reporter:
    """Shows a run while it runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._meter = Meter(0, 0.0)
        self._bar: Progress | None = None
        self._bar_task = TaskID(0)
        self._said_s = time.monotonic()
        self._programs: set[str] = set()

    def on_compile(self, event: CompileEvent, programs: int) -> None:
        """Say what is compiled, and how many there are."""
        self._programs.add(event.key)
        if event.note:
            self._say(escape(event.note))
        if event.step == "started":
            self._say(f"compiling {len(self._programs)} of {programs}: shape {event.shape} …")
        elif event.step in ("compiled", "fetched") and event.seconds > _WORTH_TELLING_S:
            self._say(f"{event.step} shape {event.shape} in {_clock(event.seconds)}")

    def on_check(self, programs: int) -> None:
        """Say that programs are going to be held against the reference."""
        self._say(f"holding {count(programs, 'program')} against the reference …")

    def on_fallback(self, error: ParityError) -> None:
        """Say that a run takes float32, and why."""
        self._say(f"[yellow]warning:[/] {escape(error.where)}: {escape(error.what)}")
        self._say("this run takes float32; backend.precision: float32 spares the next one the attempt")

    def on_open(self, opened: Opened) -> None:
        """Say what is going to be done."""
        plan, spec = opened.plan, opened.prepared.spec
        left = sum(shard.rows for shard in opened.missing)
        facts = opened.prepared.backend.facts
        sizes = f"{count(plan.rows, 'row')} in {count(len(plan.shards), 'shard')}"
        shapes = count(len(plan.ladder.shapes), "shape")
        is_here = opened.prepared.cluster is None
        backend = f"{facts.kind} {facts.precision} · {count(opened.workers, 'worker') if is_here else 'Ray'}"
        self._say(f"[bold]{escape(spec.name or '')}[/] · {spec.task} · {sizes} · {shapes} · {backend}")
        wished = spec.backend.workers
        if is_here and wished != "auto" and opened.workers < min(wished, len(opened.missing)):
            cores = "is 1 core" if opened.workers == 1 else f"are {opened.workers} cores"
            self._say(f"[yellow]warning:[/] {wished} workers were asked for, and there {cores}")
        inventory, needed = opened.prepared.inventory, opened.order.read_schema
        for note in list_notes(inventory, needed):
            self._say(f"[yellow]warning:[/] {escape(note)}")
        parity = opened.order.record.parity
        if left and parity is not None and parity.status != "reference":
            self._say(render_parity(parity))
        if left < plan.rows:
            done = plan.rows - left
            self._say(f"{done:,} rows are done already, {left:,} are left")
        self._meter = Meter(left, plan.tokens_per_row)
        if left and self._console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bar_task = self._bar.add_task("loading the model", total=1.0)
            self._bar.start()

    def on_event(self, event: Event) -> None:
        """Count it, and say so when it is time."""
        now_s = time.monotonic()
        self._meter.note(event, now_s)
        if isinstance(event, CoreRetired):
            self._say(f"[yellow]warning:[/] core {event.core} gets no more work: {escape(event.why)}")
        if isinstance(event, WorkerLost):
            self._say(f"[yellow]warning:[/] core {event.core}: {escape(event.why.partition(chr(10))[0])}")
        if isinstance(event, RowIsolated):
            self._say(f"[yellow]warning:[/] row {event.row} is rejected: {escape(event.message)}")
        if isinstance(event, PartDone) and event.is_uniform:
            self._say(f"[yellow]warning:[/] {tell_uniform([event.shard])}")
        if isinstance(event, RoomAwaited):
            self._say(f"waiting for room on the cluster: {escape(event.needs)}")
        if isinstance(event, OthersSeen) and event.awaited:
            self._say(f"waiting for {count(event.awaited, 'shard')} that other runners have in hand …")
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=self._meter.share, description=self._meter.line())
        elif now_s - self._said_s > _LINE_EVERY_S:
            self._said_s = now_s
            self._say(self._meter.line())

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
