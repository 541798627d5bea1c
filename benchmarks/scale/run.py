"""Simulate jobs of up to 10^10 rows on up to 10,000 cores: the real planner, supervisor, hand-out and claims.

    python benchmarks/scale/run.py              every scenario: about an hour of one core
    python benchmarks/scale/run.py size hazard  some groups, or single scenarios by name

Simulated are machines, workers and S3; simulated time takes none. Writes `benchmarks/scale.json`, to which
each scenario is added when it is done, and `benchmarks/scale.md`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scenarios import Scenario, list_scenarios
from simulate import simulate
from tables import render
from workload import make_job

REPORT = Path(__file__).parents[1] / "scale"


def main() -> None:
    """The scenarios that are asked for, and the report of all that there are figures of."""
    wanted = sys.argv[1:]
    for scenario in list_scenarios():
        if not wanted or scenario.group in wanted or scenario.key in wanted:
            outcome = run(scenario)
            print(
                f"{scenario.key}: {outcome['efficiency']:.1%}, {outcome['simulated_in_s']:.0f} s", flush=True
            )
            save(scenario.key, outcome)
    REPORT.with_suffix(".md").write_text(make_page(load()))


def run(scenario: Scenario) -> dict[str, Any]:
    """One scenario's outcome, with its two efficiencies."""
    job = make_job(scenario.rows, scenario.shard_rows)
    outcome = simulate(job, scenario.fleet, scenario.seed, scenario.traffic)
    shares = {"efficiency": outcome.efficiency, "efficiency_started": outcome.efficiency_started}
    return {**asdict(outcome), **shares}


def load() -> dict[str, dict[str, Any]]:
    """What is known, in the order of the scenarios."""
    path = REPORT.with_suffix(".json")
    found = json.loads(path.read_text()) if path.exists() else {}
    return {scenario.key: found[scenario.key] for scenario in list_scenarios() if scenario.key in found}


def save(key: str, outcome: dict[str, Any]) -> None:
    """Add an outcome to the report."""
    text = json.dumps({**load(), key: outcome}, indent=1)
    REPORT.with_suffix(".json").write_text(text + "\n")


def make_page(outcomes: dict[str, dict[str, Any]]) -> str:
    """The report."""
    told = "what is real in it, and what the columns mean: [docs/scale.md](../docs/scale.md)."
    head = f"# At scale, by simulation\n\n`python benchmarks/scale/run.py`; {told}\n"
    return f"{head}\n{render(outcomes)}\n"


if __name__ == "__main__":
    main()
