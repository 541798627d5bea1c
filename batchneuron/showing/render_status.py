"""How far a run has come, as text for people."""

from __future__ import annotations

from batchneuron.input_notes import tell_skipped
from batchneuron.ledger.status import Runner, Status
from batchneuron.showing.render import count

_SHOWN = 5


def render_status(status: Status) -> str:
    """A few lines: done, pace, who works, who fell silent."""
    state = "finished" if status.is_finished else "not finished"
    lines = [
        f"{status.output}: {state}",
        f"shards   {status.shards_done:,} of {status.shards:,}",
        f"rows     {status.rows_done:,} of {status.rows:,}",
        f"rejected {status.rejected:,}",
    ]
    if not status.is_finished:
        lines.append(f"pace     {_render_pace(status)}")
        lines.append(f"runners  {_render_runners(status)}")
        lines += [f"silent   {_render_silent(runner)}" for runner in _list_silent(status)[:_SHOWN]]
    lines += [f"skipped  {line}" for line in tell_skipped(status.skipped)]
    if status.strays:
        named = ", ".join(status.strays[:3])
        lines.append(f"strays   {len(status.strays)} files in data/ are not of this run: {named}")
        lines.append(f"         `batchneuron gc {status.output}` removes those of other runs")
    return "\n".join(lines)


def render_line(status: Status | None) -> str:
    """`30 of 128 shards, 23% of rows, 4,100 rows/s, 0:42:10 left, 8 runners, 1 silent`."""
    if status is None:
        return "no runner has begun yet"
    share = status.rows_done / status.rows if status.rows else 1.0
    told = [f"{status.shards_done:,} of {count(status.shards, 'shard')}", f"{int(share * 100)}% of rows"]
    if status.rejected:
        told.append(f"{status.rejected:,} rejected")
    if status.is_finished:
        return ", ".join([*told, "finished"])
    return ", ".join([*told, _render_pace(status), _render_runners(status)])


def _render_pace(status: Status) -> str:
    if status.rows_per_s is None or status.left_s is None:
        return "pace not known yet" if status.runners else "nobody is at work"
    return f"{status.rows_per_s:,.0f} rows/s, {clock(status.left_s)} left"


def _render_runners(status: Status) -> str:
    silent = _list_silent(status)
    told = count(len(status.runners) - len(silent), "runner")
    hand = sum(runner.shards for runner in status.runners if not runner.is_silent)
    told += f" with {count(hand, 'shard')} in hand" if hand else ""
    return f"{told}, {len(silent)} silent" if silent else told


def _list_silent(status: Status) -> list[Runner]:
    return [runner for runner in status.runners if runner.is_silent]


def _render_silent(runner: Runner) -> str:
    name = f"{runner.name} on " if runner.name else ""
    shards = count(runner.shards, "shard")
    return f"{name}{runner.host}, process {runner.pid}, for {clock(runner.age_s)} with {shards} in hand"


def clock(seconds: float) -> str:
    """`0:42`, `1:02:10`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
