"""Commands for compiled programs: compile, and cache ls, verify and gc."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchneuron.cli.arguments import (
    UNIT_S,
    as_json_flag,
    print_record,
    read_span,
    remote_code,
    say,
    set_keys,
    spec_file,
)
from batchneuron.errors import BackendError, Interrupted

if TYPE_CHECKING:
    from batchneuron.artifacts.upkeep import Cleared, Kept
    from batchneuron.programs.compile import Compiled, CompileEvent
    from batchneuron.spec.sections import JobSpec

_TARGETS = ("inf2", "trn1", "trn1n", "trn2", "trn3")
_UNIT_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _read_size(_context: click.Context, _option: click.Parameter, given: str | None) -> int | None:
    """Bytes of `20G`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?", (given or "").lower())
    if given is not None and not found:
        raise click.BadParameter(f"'{given}' is no size: write 20G, 500M or a number of bytes")
    return int(float(found[1]) * _UNIT_BYTES[found[2]]) if found else None


@click.command()
@spec_file
@set_keys
@remote_code
@click.option("--target", type=click.Choice(_TARGETS), help="Chip to compile for, as backend.target.")
@click.option("--jobs", type=click.IntRange(min=1), help="Compilers at once; default: as memory allows.")
@click.option(
    "--lock",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the hashes of the artifacts to this file, for backend.artifacts_lock.",
)
@as_json_flag
def compile(job: str, overrides: tuple[str, ...], **flags: Any) -> None:
    """Compile all programs of a job ahead of its run, on any host; share them if the spec says where."""
    from batchneuron.artifacts.share import write_pins
    from batchneuron.run import load_job

    if flags["target"]:
        overrides = (*overrides, f"backend.target={flags['target']}")
    spec = load_job(job, overrides)
    compiled = _compile(spec, allow_remote_code=flags["trust_remote_code"], jobs=flags["jobs"])
    if flags["lock"]:
        write_pins(flags["lock"], compiled.artifacts)
    print_record(_record(compiled), _render_compiled(compiled), flags["as_json"])
    if compiled.not_shared:
        raise BackendError(
            "not everything could be shared:\n" + "\n".join(f"    {line}" for line in compiled.not_shared),
            spec.backend.artifacts or "",
            "the local cache has it all; run the same command again to share the rest",
        )


def _compile(spec: JobSpec, *, allow_remote_code: bool, jobs: int | None) -> Compiled:
    """The compiled job, with a line for each thing that happens.

    Raises:
        Interrupted: Ctrl-C; what was compiled is kept.
    """
    from batchneuron.programs.compile import CompileWatch, Sharing
    from batchneuron.programs.precompile import compile_job

    sharing = Sharing(spec.backend.artifacts, spec.backend.artifacts_lock, offers_all=True)
    watch = CompileWatch(on_event=lambda event: say(describe_event(event)))
    try:
        return compile_job(spec, allow_remote_code=allow_remote_code, watch=watch, sharing=sharing, jobs=jobs)
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted", "", "what is compiled is kept: run the same command again"
        ) from error


def describe_event(event: CompileEvent) -> str:
    """One line: `8x128: compiled in 61.0 s`."""
    words = {
        "reused": "is in the cache",
        "fetched": f"fetched in {event.seconds:.1f} s",
        "waiting": "waiting",
        "started": "compiling",
        "compiled": f"compiled in {event.seconds:.1f} s",
        "warned": "warning",
    }
    if event.note and event.step in ("started", "waiting"):  # which say it themselves
        return f"{event.shape}: {event.note}"
    return f"{event.shape}: {words[event.step]}" + (f": {event.note}" if event.note else "")


def _record(compiled: Compiled) -> dict[str, Any]:
    return {
        "artifacts": [
            {
                "shape": str(event.shape),
                "key": event.key,
                "size_bytes": size,
                "seconds": event.seconds,
                "how": event.step,
            }
            for event, size in _list_sizes(compiled)
        ],
        "not_shared": list(compiled.not_shared),
    }


def _list_sizes(compiled: Compiled) -> list[tuple[CompileEvent, int]]:
    from batchneuron.artifacts.entry import read_entry

    folders = {artifact.key: artifact.folder for artifact in compiled.artifacts}
    return [(event, read_entry(folders[event.key]).size_bytes) for event in compiled.events]


def _render_compiled(compiled: Compiled) -> str:
    rows = [
        (str(event.shape), event.key[:8], _show_bytes(size), f"{event.seconds:.1f} s", event.step)
        for event, size in _list_sizes(compiled)
    ]
    return _render_table(("shape", "key", "size", "time", "how"), rows)


@click.group()
def cache() -> None:
    """Look after the compiled programs of this user."""


@cache.command("ls")
@as_json_flag
def list_cache(as_json: bool) -> None:
    """List compiled programs, the last used first."""
    from batchneuron.artifacts import default_cache
    from batchneuron.artifacts.upkeep import list_kept

    kept = list_kept(default_cache(), verifies=False)
    print_record({"entries": [asdict(entry) for entry in kept]}, _render_kept(kept), as_json)


@cache.command("verify")
@click.option("--delete", is_flag=True, help="Delete what is broken; it is compiled again when needed.")
@as_json_flag
def verify_cache(delete: bool, as_json: bool) -> None:
    """Hash every file of every compiled program; exit code 78 if any is not what was published."""
    from batchneuron.artifacts import default_cache
    from batchneuron.artifacts.upkeep import delete_broken, list_kept

    kept = list_kept(default_cache(), verifies=True)
    broken = tuple(entry for entry in kept if entry.flaw is not None)
    cleared = delete_broken(default_cache(), broken) if delete else None
    record = {
        "entries": [asdict(entry) for entry in kept],
        "broken": len(broken),
        "deleted": len(cleared.deleted) if cleared else 0,
    }
    print_record(record, _render_kept(kept), as_json)
    if broken:
        done = f", {len(cleared.deleted)} of them deleted" if cleared else ""
        hint = "" if delete else "batchneuron cache verify --delete removes them; a run compiles them again"
        raise BackendError(f"{len(broken)} of {len(kept)} are broken{done}", str(default_cache()), hint)


@cache.command("gc")
@click.option(
    "--older-than", callback=read_span, metavar="SPAN", help="Delete what no run used for so long: 30d."
)
@click.option(
    "--keep-bytes", callback=_read_size, metavar="SIZE", help="Delete the least recently used beyond: 20G."
)
@as_json_flag
def clear(older_than: float | None, keep_bytes: int | None, as_json: bool) -> None:
    """Delete old programs and what killed processes left. What a run uses now stays."""
    from batchneuron.artifacts import default_cache
    from batchneuron.artifacts.upkeep import clear_cache

    cleared = clear_cache(default_cache(), older_than, keep_bytes)
    print_record(asdict(cleared), _render_cleared(cleared), as_json)


def _render_kept(kept: Sequence[Kept]) -> str:
    rows = [
        (
            entry.key[:8],
            *(entry.facts.get(name, "?") for name in ("task", "model", "shape", "backend")),
            _show_bytes(entry.size_bytes),
            _show_span(entry.unused_s),
            entry.flaw or "yes",
        )
        for entry in kept
    ]
    return _render_table(("key", "task", "model", "shape", "backend", "size", "unused", "intact"), rows)


def _render_cleared(cleared: Cleared) -> str:
    freed = _show_bytes(sum(entry.size_bytes for entry in cleared.deleted))
    lines = [f"deleted   {len(cleared.deleted)} programs, {freed}"]
    if cleared.in_use:
        lines.append(f"in use    {len(cleared.in_use)} stay, because a run uses them")
    if cleared.leftovers:
        lines.append(f"leftovers {cleared.leftovers} folders of killed processes")
    return "\n".join(lines)


def _render_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )


def _show_bytes(size: int) -> str:
    for unit, limit in (("B", 1 << 10), ("KiB", 1 << 20), ("MiB", 1 << 30)):
        if size < limit:
            return f"{size / (limit >> 10):.0f} {unit}"
    return f"{size / (1 << 30):.1f} GiB"


def _show_span(seconds: float) -> str:
    for unit, limit in (("min", 3600), ("h", 86400)):
        if seconds < limit:
            return f"{seconds / UNIT_S[unit[0]]:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
