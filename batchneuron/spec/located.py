"""Values that know where they were written, and what was found wrong with them.

The records between reading a spec (`document.py`), changing it (`parse.py`) and judging it
(`rules.py`, `problems.py`). None of them leaves the parser: a user gets a JobSpec or Problems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import JsonValue

from batchneuron.errors import Problem
from batchneuron.secrets import redact

Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, or a flag of the command line (which has no lines)."""

    name: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the document and the line of its key."""

    value: Scalar | tuple[Node, ...] | dict[str, Node]
    place: Place
    written: str = ""
    """What stood there before variables of the environment were put in; shown instead of the value."""

    @property
    def children(self) -> dict[str, Node]:
        """The entries of a mapping; none for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    def plain(self) -> JsonValue:
        """The value without places; characters that are not Unicode are replaced."""
        if isinstance(self.value, dict):
            return {_encodable(key): child.plain() for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return _encodable(self.value) if isinstance(self.value, str) else self.value

    def get(self, *path: str | int) -> Node | None:
        """The value at a path, or None where there is none."""
        node: Node | None = self
        for step in path:
            value = node.value if node else None
            if isinstance(value, tuple) and isinstance(step, int):
                node = value[step] if step < len(value) else None
            else:
                node = value.get(step) if isinstance(value, dict) and isinstance(step, str) else None
        return node

    def put(self, path: tuple[str, ...], new: Node) -> Node:
        """A copy with another value at a path; mappings on the way are made where there are none."""
        if not path:
            return new
        child = self.children.get(path[0], Node(None, new.place))
        return replace(self, value={**self.children, path[0]: child.put(path[1:], new)})

    def iter_nodes(self, path: Path = ()) -> Iterator[tuple[Path, Node]]:
        """This value and all within it, with their paths."""
        yield path, self
        if isinstance(self.value, tuple):
            for index, child in enumerate(self.value):
                yield from child.iter_nodes((*path, index))
        for key, child in self.children.items():
            yield from child.iter_nodes((*path, key))

    def describe(self) -> str:
        """The value in a few words, for "got …"."""
        if self.written:
            return f"the text of {redact(self.written)[:_SHOWN_CHARACTERS]!r}"
        if isinstance(self.value, str):
            shown = redact(self.value)
            return repr(shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…")
        if isinstance(self.value, dict):
            return "a mapping" if self.value else "an empty mapping"
        if isinstance(self.value, tuple):
            return "a list" if self.value else "an empty list"
        if self.value is None:
            return "nothing"
        return (
            str(self.value).lower() if isinstance(self.value, bool) else str(self.value)[:_SHOWN_CHARACTERS]
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake at a place of the document, before it is told to a user."""

    place: Place
    path: Path
    what: str
    hint: str = ""

    def to_problem(self) -> Problem:
        """The problem as a user sees it: printable, and without any credential."""
        texts = (str(self.place), join_path(self.path), self.what, self.hint)
        return Problem(*(redact(text).encode("utf-8", "backslashreplace").decode() for text in texts))


def join_path(path: Path) -> str:
    """A path as it is written: `input.data_files[2]`."""
    joined = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return joined.removeprefix(".")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
