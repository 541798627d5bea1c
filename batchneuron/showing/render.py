"""Records as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from decimal import ROUND_CEILING, Decimal

import pyarrow as pa

from batchneuron.input_notes import tell_skipped
from batchneuron.ledger.report import Agreement, Speed
from batchneuron.ledger.status import Status
from batchneuron.planning.preview import Preview
from batchneuron.programs.agreement import Parity
from batchneuron.run import Summary

_CELL = 48


def count(number: int, noun: str) -> str:
    """`1 shard`, `1,024 shards`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def render_plan(preview: Preview) -> str:
    """What a run would do."""
    renamed = ", ".join(f"{column} → {name}" for name, column in preview.renamed.items())
    lines = [
        ("job", f"{preview.name}, {preview.task}"),
        ("model", f"{preview.model}{f' at {preview.commit}' if preview.commit else ''}"),
        ("backend", f"{preview.backend}, {count(preview.workers, 'worker')}"),
        ("input", f"{count(preview.rows, 'row')} in {count(preview.files, 'file')}"),
        ("tokens", f"{preview.tokens_per_row:.1f} a row, in a sample"),
        ("shards", f"{preview.shards:,}, {preview.shards_done:,} of them done"),
        ("shapes", " ".join(preview.shapes)),
        ("padding", _render_padding(preview)),
        ("to compile", count(preview.to_compile, "artifact")),
        ("agreement", render_parity(preview.parity)),
        *([("renamed", renamed)] if renamed else []),
        *(("warning", note) for note in preview.notes),
        ("output", preview.output),
    ]
    return "\n".join(f"{name:<11} {value}" for name, value in lines)


def _render_padding(preview: Preview) -> str:
    """`19.8% of all slots, in a sample; 18.9% at least with 4 shapes; 17.0% with one more`."""
    forecast = preview.forecast
    shapes = count(len(preview.shapes), "shape")
    parts = [
        f"{forecast.padding_share:.1%} of all slots, in a sample",
        f"{forecast.least_share:.1%} at least with {shapes}",
    ]
    if forecast.one_more_share is not None:
        parts.append(f"{forecast.one_more_share:.1%} with one more")
    return "; ".join(parts)


def render_summary(summary: Summary) -> str:
    """What a run did."""
    rows = sum(part.rows for part in summary.done_now)
    if not summary.done_now:
        held = f"{summary.rows:,} rows, {summary.rejected:,} of them rejected"
        return f"nothing to do: {held}, are in {summary.output}/data"
    slots = sum(part.slots for part in summary.done_now)
    tokens = sum(part.tokens for part in summary.done_now)
    truncated = sum(part.truncated for part in summary.done_now)
    padding = 1 - tokens / slots if slots else 0.0
    twice = count(summary.done_twice, "shard")
    met = f"{twice} {_was(summary.done_twice)} done twice, by runners that met: no row is there twice\n"
    return (
        f"{rows:,} rows in {summary.elapsed_s:.1f} s ({rows / summary.elapsed_s:,.0f} rows/s), "
        f"{summary.rejected:,} rejected, {truncated:,} truncated, padding {padding:.1%}\n"
        f"{met if summary.done_twice else ''}"
        f"{_render_throttled(summary.throttled)}"
        f"{_render_restarts(summary)}"
        f"{_render_warnings(summary)}"
        f"{summary.output}/data"
    )


def _render_throttled(answers: int) -> str:
    return f"slowed down by the store {answers:,} times: each request was sent again\n" if answers else ""


def _render_restarts(summary: Summary) -> str:
    if not summary.restarts:
        return ""
    died = f"{count(summary.restarts, 'worker')} died and {_was(summary.restarts)} replaced"
    rows = ", ".join(str(found.row) for found in summary.isolated[:5])
    more = ", …" if len(summary.isolated) > 5 else ""
    found = f"; {count(len(summary.isolated), 'row')} killed them and {_was(len(summary.isolated))} rejected"
    return f"{died}{f'{found}: {rows}{more}' if summary.isolated else ''}\n"


def _render_warnings(summary: Summary) -> str:
    uniform = [part.shard for part in summary.done_now if part.is_uniform]
    lines = [*tell_skipped(summary.skipped), *([tell_uniform(uniform)] if uniform else [])]
    return "".join(f"warning: {line}\n" for line in lines)


def tell_uniform(shards: Sequence[int]) -> str:
    """That a device, or a program, seems to be stuck."""
    named = ", ".join(map(str, shards[:5])) + (", …" if len(shards) > 5 else "")
    which = f"in shard {named}" if len(shards) == 1 else f"in {len(shards):,} shards ({named})"
    return f"all predictions {which} are the same, of inputs that differ: look at them before you use them"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def render_parity(parity: Parity | None) -> str:
    """`agrees with the reference: 64 rows, labels 100.0%, scores within 0.002`."""
    if parity is None:
        return "not held against the reference yet"
    if parity.status == "reference":
        return "the backend is the reference itself"
    if parity.status == "off":
        return "not held against the reference: backend.parity_rows is 0"
    found = parity.overall
    if found is None:
        return "not held against the reference: no row of the sample fits a shape"
    told = [count(found.rows, "row")]
    if found.label_agreement is not None:
        told.append(f"labels {found.label_agreement:.1%}")
    if found.score_difference_max is not None:
        told.append(f"scores within {round_up(found.score_difference_max)}")
    if found.cosine_min is not None:
        told.append(f"cosine of vectors at least {found.cosine_min:.5f}")
    bare = [shape.shape for shape in parity.shapes if not shape.agreement.rows]
    note = f"; not looked at, for want of a row: {', '.join(bare)}" if bare else ""
    return f"agrees with the reference: {', '.join(told)}{note}"


def round_up(value: float) -> str:
    """`0.02` for 0.0104: one digit, and never less than the value, which is 0 or more."""
    exact = Decimal(str(value))
    return f"{float(exact.quantize(Decimal(1).scaleb(exact.adjusted()), rounding=ROUND_CEILING)):g}"


def render_report(status: Status, speed: Speed | None, preview: pa.Table, agreement: Agreement | None) -> str:
    """A run's output at a glance."""
    parts = [
        f"output    {status.output}/data ({count(status.shards_done, 'Parquet file')})",
        "",
        _render_rows(preview),
        "",
    ]
    parts.append(f"rows      {status.rows_done:,} of {status.rows:,}, {status.rejected:,} rejected")
    parts += [f"skipped   {line}" for line in tell_skipped(status.skipped)]
    parts.append(f"parity    {render_parity(status.parity)}")
    if agreement is not None and agreement.rows:
        share, majority = agreement.equal / agreement.rows, agreement.majority_rows / agreement.rows
        parts.append(
            f"accuracy  {share:.1%} of labels equal '{agreement.column}' "
            f"(always '{agreement.majority}': {majority:.1%})"
        )
    if speed is not None:
        parts.append(f"speed     {speed.rows_per_s:,.0f} rows/s, start of the workers included")
        parts.append(f"stages    {_render_stages(speed)}")
        if speed.throttled:
            parts.append(f"store     slowed down {speed.throttled:,} times")
        if speed.restarts:
            rows = count(speed.isolated, "row")
            parts.append(f"restarts  {count(speed.restarts, 'worker')} died at work; {rows} killed them")
        parts.append(f"padding   {speed.padding_share:.1%} of all slots; {speed.truncated:,} rows truncated")
    return "\n".join(parts)


def _render_stages(speed: Speed) -> str:
    """`µs a row, overlapping: read 12, encode 80, …`."""
    per_row = {name: 1e6 * seconds / max(1, speed.rows) for name, seconds in asdict(speed.seconds).items()}
    told = ", ".join(f"{name.removesuffix('_s')} {micros:,.0f}" for name, micros in per_row.items())
    return f"µs a row, overlapping: {told}"


def _render_rows(table: pa.Table) -> str:
    """Columns side by side, long values cut."""
    columns = [[name, *(_cell(value) for value in table[name].to_pylist())] for name in table.column_names]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(value: object) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
