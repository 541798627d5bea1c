"""Power: what a disk holds after the current has failed, when only what was flushed is certain.

The files are real ones. Each fsync notes what is on the disk from then on: of a file its bytes, of a folder
its names. `Disk.after_a_cut` writes down a folder as it may be found: a name that came or went after its
folder was flushed is there or not, bytes that were not flushed are gone, or half of them are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

STEPS = ("fsync", "link", "unlink", "mkdir", "replace")
KEPT, LOST = "kept", "lost"
"""What becomes of everything that was not flushed; a number draws it for each name and each file."""


class PowerCut(BaseException):
    """It is dark; no code catches it."""


@dataclass
class Disk:
    """A folder, and what of it is certain."""

    root: Path
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    """Of each folder that was flushed, by its inode: the inodes of its names."""
    content: dict[int, bytes] = field(default_factory=dict)
    """Of each file that was flushed."""
    steps: int = 0

    def __post_init__(self) -> None:
        self._flush(self.root)

    @contextmanager
    def cut_at(self, last: int | None, then: Callable[[], None]) -> Iterator[None]:
        """Let all steps happen up to one; before that `then` is called, and it is dark."""

        def watch(name: str) -> Any:
            real = getattr(os, name)

            def watched(*given: Any, **named: Any) -> Any:
                self.steps += 1
                if self.steps == last:
                    then()
                    raise PowerCut
                result = real(*given, **named)
                if name == "fsync" and (last is None or self.steps < last):
                    self._flush(Path(f"/proc/self/fd/{given[0]}").resolve())
                return result

            return watched

        with ExitStack() as stack:
            for name in STEPS:
                stack.enter_context(mock.patch.object(os, name, watch(name)))
            yield

    def _flush(self, path: Path) -> None:
        if path.is_dir():
            self.names[path.stat().st_ino] = _list_names(path)
        else:
            self.content[path.stat().st_ino] = path.read_bytes()

    def after_a_cut(self, target: Path, fate: str | int) -> None:
        """Write the folder as it may be found again."""
        live = {path.stat().st_ino: path for path in self.root.rglob("*")}
        live[self.root.stat().st_ino] = self.root
        chance = random.Random(fate) if isinstance(fate, int) else None

        def is_kept() -> bool:
            return chance.random() < 0.5 if chance else fate == KEPT

        def write(inode: int, to: Path) -> None:
            path = live.get(inode)
            if path is not None and path.is_dir():
                to.mkdir()
                now, before = _list_names(path), self.names.get(inode, {})
                for name in sorted(now.keys() | before.keys()):
                    found = now if now.get(name) == before.get(name) or is_kept() else before
                    if name in found:
                        write(found[name], to / name)
                return
            flushed, written = self.content.get(inode, b""), path.read_bytes() if path else b""
            torn = written[: len(written) // 2] if is_kept() else b""
            to.write_bytes(flushed if inode in self.content and flushed == (written or flushed) else torn)

        write(self.root.stat().st_ino, target)


def _list_names(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}
