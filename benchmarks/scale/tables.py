"""Outcomes as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

INSTANCES = Path(__file__).parents[2] / "batchneuron/backends/neuron_instances.json"
_COLUMNS = (
    "| run | shards | shard | makespan | of ideal | after the start | redone | idle "
    "| last 1 % | requests | 503 | S3 | instances |"
)


def render(outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """Every group of scenarios as a table."""
    groups: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for key, outcome in outcomes.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, []).append((name, outcome))
    titles = {
        "size": "Cores and rows",
        "shard": "How long a shard should take",
        "hazard": "What may befall 240 cores (2.4 * 10^8 rows)",
        "join": "Machines that have portions, and machines that just join",
    }
    return "\n\n".join(
        f"## {title}\n\n{_render_group(groups[group])}" for group, title in titles.items() if group in groups
    )


def _render_group(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    lines = [_COLUMNS, "|" + "---|" * (_COLUMNS.count("|") - 1)]
    lines += [f"| {name} | {' | '.join(_list_cells(outcome))} |" for name, outcome in rows]
    return "\n".join(lines)


def _list_cells(outcome: Mapping[str, Any]) -> list[str]:
    requests = sum(outcome["requests"].values())
    return [
        f"{outcome['shards']:,}",
        f"{outcome['shard_s']:.0f} s",
        _clock(outcome["makespan_s"]),
        f"{outcome['efficiency']:.1%}",
        f"{outcome['efficiency_started']:.1%}",
        f"{outcome['redone_share']:.2%}",
        f"{outcome['idle_share']:.1%}",
        _clock(outcome["tail_s"]),
        f"{requests:,}",
        f"{outcome['refused']:,}",
        f"${outcome['requests_usd']:,.2f}",
        f"${price(outcome['cores'], outcome['machine_h']):,.0f}",
    ]


def price(cores: int, machine_h: float) -> float:
    """On demand, in USD: of inf2.48xlarge, or for one core half an inf2.xlarge."""
    instances = json.loads(INSTANCES.read_text())["instances"]
    share = (
        instances["inf2.xlarge"]["on_demand"] / 2 if cores == 1 else instances["inf2.48xlarge"]["on_demand"]
    )
    return float(share) * machine_h


def _clock(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"
