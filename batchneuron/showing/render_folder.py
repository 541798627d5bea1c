"""What was found, removed or taken out of a run folder, as text for people."""

from __future__ import annotations

from collections import Counter

from batchneuron.ledger.replay import Replayed
from batchneuron.ledger.retry import SOURCE_ERROR, SOURCE_ROW, Retry
from batchneuron.ledger.sweep import Swept
from batchneuron.ledger.verify import Verified
from batchneuron.showing.render import count

_SHOWN = 20
_NOUNS = {
    "part": ("part of another run", "parts of other runs"),
    "probe": ("trial object of a start that was killed", "trial objects of starts that were killed"),
    "progress": ("report of another run's runner", "reports of other runs' runners"),
    "lease": ("lease of a dead runner", "leases of dead runners"),
    "scratch": ("half-written file", "half-written files"),
}


def render_verified(found: Verified) -> str:
    """Whether a run is whole, and else every problem with its repair."""
    lines = []
    if found.is_whole:
        lines.append(f"{found.output}: whole")
        lines.append(
            f"{count(found.rows, 'row')} in {count(found.shards, 'part')}, each row once; "
            f"{found.rejected:,} rejected; digests, pages and row numbers hold"
        )
    else:
        lines.append(f"{found.output}: not whole, {count(len(found.flaws), 'problem')}")
        for flaw in found.flaws[:_SHOWN]:
            lines += [f"  {flaw.file}: {flaw.what}", f"    → {flaw.repair}"]
        if len(found.flaws) > _SHOWN:
            lines.append(f"  and {len(found.flaws) - _SHOWN:,} more: --json lists all")
        lines.append(f"{found.rows_found:,} of {found.rows:,} rows are as they should be")
    if found.strays:
        named = ", ".join(found.strays[:3]) + (", …" if len(found.strays) > 3 else "")
        lines.append(f"not of this run, in data/: {count(len(found.strays), 'file')}: {named}")
        lines.append(f"    → `batchneuron gc {found.output}` removes parts of other runs; move the rest away")
    return "\n".join(lines)


def render_replayed(replayed: Replayed) -> str:
    """What the second time gave."""
    shards = ", ".join(map(str, replayed.shards[:5])) + (", …" if len(replayed.shards) > 5 else "")
    head = f"replay: {count(replayed.rows, 'row')} of shards {shards}"
    if not replayed.differences:
        if replayed.is_same:
            return f"{head}: every bit the same"
        return f"{head}: {count(replayed.rows_different, 'row')} differ from what is stored"
    lines = [f"{head}; this machine is not the one of the run, so that the last bits may differ:"]
    lines += [f"    {line}" for line in replayed.differences]
    lines += [f"    beyond the tolerance: {excess}" for excess in replayed.excesses]
    return "\n".join([*lines, *([] if replayed.excesses else ["they agree within the tolerance"])])


def render_swept(swept: Swept) -> str:
    """What was removed, or would be."""
    stay = f"; {count(swept.live_runners, 'runner')} at work" if swept.live_runners else ""
    if not swept.files:
        return f"{swept.output}: nothing to remove{stay}"
    counts = Counter(file.kind for file in swept.files)
    told = ", ".join(f"{number:,} {_NOUNS[kind][number != 1]}" for kind, number in counts.items())
    total_bytes = sum(file.size_bytes for file in swept.files)
    done = "would be removed" if swept.is_dry_run else "removed"
    files = [f"  {file.name}" for file in swept.files[:_SHOWN]] if swept.is_dry_run else []
    return "\n".join([f"{swept.output}: {done}: {told}; {total_bytes:,} bytes{stay}", *files])


def render_retry(retry: Retry | None) -> str:
    """Where the rejected rows are now, and what to do with them."""
    if retry is None:
        return "no row was rejected: there is nothing to retry"
    unread = f"\n{count(retry.unread, 'row')} could not be parsed and are null there" if retry.unread else ""
    return (
        f"{count(retry.rows, 'rejected row')} in {retry.data}: mend them there; "
        f"'{SOURCE_ROW}' is their place in the run's input, '{SOURCE_ERROR}' why{unread}\n"
        f"then: batchneuron run {retry.spec}"
    )
