"""A submission as text for people."""

from __future__ import annotations

import shlex

from batchneuron.aws.submit import Submission
from batchneuron.aws.wait import News
from batchneuron.backends.neuron_chips import describe_prices
from batchneuron.showing.render import count
from batchneuron.showing.render_status import render_line


def render_submission(done: Submission) -> str:
    """What was submitted, or would be, and the commands that look at it."""
    frozen = done.frozen
    output = shlex.quote(frozen.output)
    if done.job is None:
        return f"nothing to do: {count(frozen.rows, 'row')} are in {frozen.output}/data"
    left = f"{frozen.shards_left:,} of {count(frozen.shards, 'shard')} to do"
    lines = [
        ("job", f"{done.job['jobName']}, {_render_children(done)}, queue {done.queue}"),
        ("output", f"{frozen.output}: {count(frozen.rows, 'row')}, {left}"),
        ("shapes", " ".join(frozen.shapes)),
        *([("machine", _render_machine(done))] if done.machine is not None else []),
        ("spec", frozen.spec),
    ]
    if done.job_id is None:
        lines.append(("dry run", "nothing was written; --json prints the requests"))
    else:
        lines += [
            ("id", done.job_id),
            ("console", done.console or ""),
            ("status", f"batchneuron status {output} --watch"),
            ("stop", f"aws batch terminate-job --job-id {done.job_id} --reason stopped"),
        ]
    return "\n".join(f"{name:<8} {value}" for name, value in lines)


def _render_children(done: Submission) -> str:
    return f"array of {done.children:,}" if done.children > 1 else "1 job"


def _render_machine(done: Submission) -> str:
    machine = done.machine
    assert machine is not None
    told = f"{machine.name}, {count(done.workers, 'worker')} each"
    if machine.on_demand_usd_per_hour is None:
        return told
    most = done.children * machine.on_demand_usd_per_hour
    return f"{told}; at most ${most:,.2f} an hour on demand ({describe_prices()}), less on spot"


def render_news(news: News) -> str:
    """`30 of 128 shards, …; children: 3 running, 1 starting`."""
    children = ", ".join(f"{number:,} {state.lower()}" for state, number in sorted(news.children.items()))
    return f"{render_line(news.status)}; children: {children}"
