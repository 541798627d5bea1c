"""Records as text for people."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa

from batchneuron.agreement import Parity
from batchneuron.preview import Preview
from batchneuron.report import Agreement, Speed, Status
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
        f"{summary.output}/data"
    )


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def render_status(status: Status) -> str:
    """How far a run has come."""
    state = "finished" if status.is_finished else "not finished"
    lines = [
        f"{status.output}: {state}",
        f"shards   {status.shards_done:,} of {status.shards:,}",
        f"rows     {status.rows_done:,} of {status.rows:,}",
        f"rejected {status.rejected:,}",
    ]
    if status.strays:
        named = ", ".join(status.strays[:3])
        lines.append(f"strays   {len(status.strays)} files in data/ are not of this run: {named}")
        lines.append(f"         `batchneuron gc {status.output}` removes those of other runs")
    return "\n".join(lines)


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
        told.append(f"scores within {found.score_difference_max:.1g}")
    if found.cosine_min is not None:
        told.append(f"cosine of vectors at least {found.cosine_min:.5f}")
    return f"agrees with the reference: {', '.join(told)}"


def render_report(status: Status, speed: Speed | None, preview: pa.Table, agreement: Agreement | None) -> str:
    """A run's output at a glance."""
    parts = [
        f"output    {status.output}/data ({count(status.shards_done, 'Parquet file')})",
        "",
        _render_rows(preview),
        "",
    ]
    parts.append(f"rows      {status.rows_done:,} of {status.rows:,}, {status.rejected:,} rejected")
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
