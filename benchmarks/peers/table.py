"""`benchmarks/peers.json` as the page `benchmarks/peers.md` and the picture `docs/peers.svg`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from workloads import WORKLOADS

BENCHMARKS = Path(__file__).resolve().parents[1]
PICTURE = BENCHMARKS.parent / "docs/peers.svg"
_METHOD = """# batchneuron beside its peers

    make bench

Each run is a process of its own; variants take turns; a run begins once a probe of the machine reaches 80 %
of the best one, and counts where the probe after it does, too. Rows per second are of the whole way from a
Parquet file to a Parquet file, without imports, loading, export and compiling (Ray Data and datasets.map
start their workers within it). Everybody gets the same torch, the same rows and the same limit in tokens;
peers get batches of 32, or 128 of short texts. "of limit": share of the best matrix
product of torch and numpy that the model's linear layers on real tokens came to; above 100 % where OpenVINO's
own are faster than theirs. Memory is the proportional set size of all
processes, at its peak. "set-up" is until work can begin; for batchneuron with its artifacts in place.
batchneuron has two workers, with three shards each for long and short texts, and one each for the others.

"agreement" is with the first variant of a workload: cosine of vectors, share of equal answers. minilm is the
real all-MiniLM-L6-v2; the others have random weights, whose labels are nearly even, so that bfloat16 picks
another one now and then, and often among ten zero-shot labels. OpenVINO and optimum-intel choose bfloat16 by
themselves on a processor that is made for it; on others nobody is measured in bfloat16.
"""
_MACHINE = """## {machine}

Best matrix product seen: {float32:.0f} GFLOP/s in float32, {bfloat16:.0f} in bfloat16.
"""


def main() -> None:
    """Write both."""
    reports = json.loads((BENCHMARKS / "peers.json").read_text())
    sections = [_METHOD]
    for report in reports:
        sections.append(_MACHINE.format(machine=report["machine"], **report["limit_gflops"]))
        if "note" in report:
            sections.append(report["note"] + "\n")
        for name in list_workloads(report):
            cells = [cell for cell in report["cells"] if cell["workload"] == name]
            sections.append(describe(name, cells, report["limit_gflops"]))
    (BENCHMARKS / "peers.md").write_text("\n".join(sections))
    draw(reports)


def list_workloads(report: dict[str, Any]) -> list[str]:
    """Those that were measured on a machine, in their order."""
    return [name for name in WORKLOADS if any(cell["workload"] == name for cell in report["cells"])]


def describe(name: str, cells: list[dict[str, Any]], limits: dict[str, float]) -> str:
    """One workload's table, fastest first."""
    workload = WORKLOADS[name]
    best_peer = max((rate(cell) for cell in cells if not is_ours(cell)), default=0.0)
    lines = [
        f"### {name}: {workload.task}, {workload.model}, {cells[0]['rows']:,} rows\n",
        "| variant | rows/s (runs) | to best peer | of limit | agreement | slots/token | MiB | set-up s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    tokens = next((cell["tokens_per_row"] for cell in cells if cell.get("tokens_per_row")), None)
    for cell in sorted(cells, key=rate, reverse=True):
        if cell["failure"]:
            lines.append(
                f"| {cell['variant']} | failed: {cell['failure'].splitlines()[-1][:80]} | | | | | | |"
            )
            continue
        share = ""
        if workload.gflop_per_token and tokens:
            limit = limits["float32" if "float32" in cell["variant"] else "bfloat16"]
            share = f"{rate(cell) * tokens * workload.gflop_per_token / limit:.0%}"
        agreement = ", ".join(f"{key} {value}" for key, value in cell["agreement"].items())
        runs = ", ".join(f"{value:.0f}" if value >= 100 else f"{value:.1f}" for value in cell["rows_per_s"])
        slots = f"{cell['slots_per_token']:.2f}" if cell["slots_per_token"] else ""
        lines.append(
            f"| {cell['variant']} | {rate(cell):.1f} ({runs}) | {rate(cell) / best_peer:.2f} | {share} | "
            f"{agreement} | {slots} | {max(cell['peak_mib']):.0f} | {min(cell['setup_s']):.1f} |"
        )
    noisy = sum(cell["noisy_runs"] for cell in cells)
    return "\n".join([*lines, f"\nRuns thrown away because the machine was busy: {noisy}.\n"])


def rate(cell: dict[str, Any]) -> float:
    """Rows per second, the median of the runs; 0 for what failed."""
    return statistics.median(cell["rows_per_s"]) if cell["rows_per_s"] else 0.0


def is_ours(cell: dict[str, Any]) -> bool:
    """Whether it is batchneuron's."""
    return bool(cell["variant"].startswith("batchneuron"))


def draw(reports: list[dict[str, Any]]) -> None:
    """Bars of rows per second over the best peer's: a part for each machine, a group for each workload."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "batchneuron"  # the same bytes for the same figures
    from matplotlib import pyplot

    heights = [len(list_workloads(report)) for report in reports]
    figure, parts = pyplot.subplots(
        len(reports),
        figsize=(9, 0.62 * sum(heights) + 1.1 * len(heights)),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, report in zip(parts[:, 0], reports, strict=True):
        draw_machine(axes, report)
    parts[-1, 0].set_xlabel("rows per second, the best peer's on the same machine being 1")
    figure.savefig(PICTURE, metadata={"Date": None})


def draw_machine(axes: Any, report: dict[str, Any]) -> None:
    """The bars of one machine, and who was the best peer of each workload."""
    names, ticks = list_workloads(report), []
    for place, name in enumerate(names):
        cells = [cell for cell in report["cells"] if cell["workload"] == name]
        peer = max((cell for cell in cells if not is_ours(cell)), key=rate)
        best = rate(peer)
        ticks.append(f"{name} ({WORKLOADS[name].model})\nbest peer: {peer['variant']}")
        for step, (kind, colour) in enumerate({"float32": "#8fb8de", "bfloat16": "#1f5f99"}.items()):
            ours = next((rate(c) for c in cells if is_ours(c) and c["variant"].endswith(kind)), None)
            if ours is not None:
                axes.barh(place + 0.36 * step, ours / best, 0.34, color=colour, label=f"batchneuron {kind}")
                axes.text(
                    ours / best + 0.03, place + 0.36 * step, f"{ours / best:.2f}", va="center", fontsize=8
                )
    axes.axvline(1, color="#555555", linewidth=1)
    axes.set_yticks([place + 0.18 for place in range(len(names))], ticks, fontsize=8)
    axes.invert_yaxis()
    axes.set_title(report["machine"].rpartition(", Python")[0], fontsize=9, loc="left")
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
