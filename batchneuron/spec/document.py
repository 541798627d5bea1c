"""YAML 1.2 text to a tree of values that know their lines.

Refuses what a spec never needs and a parser should not meet: tags, many aliases, deep nesting, more
than one document, keys given twice. Knows nothing about specs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from math import isfinite
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import ScalarNode

from batchneuron.spec.located import Finding, Node, Path, Place, Scalar

MAX_BYTES: Final = 1 << 20
_MAX_ALIASES: Final = 8
_MAX_DEPTH: Final = 20
_TAG: Final = "tag:yaml.org,2002:"
_HINTS: Final = (
    (r"'\t'", "indent with spaces, not with tabs"),
    ("cannot start any token", "put the value in quotes"),
    ("but found '{'", "put a text that begins with a brace in quotes"),
    ("mapping values are not allowed", "put a text that holds ': ' in quotes, and check the indentation"),
)


class Malformed(Exception):
    """The text cannot be read at all; holds the one finding that says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding)
        self.finding = finding


def read_document(text: str, name: str, findings: list[Finding]) -> Node:
    """The mapping that a file holds; mistakes that can be read past are added to the findings.

    Raises:
        Malformed: the file is empty, too large, no YAML, or no mapping.
    """
    top = Place(name, 1)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise Malformed(Finding(Place(name), (), "is larger than 1 MiB; a spec is a few lines of YAML"))
    root = _TreeBuilder(text, top, findings, is_file=True).read()
    if root.value is None:
        hint = "a spec needs task, input.path, input.columns and output.path"
        raise Malformed(Finding(top, (), "is empty", hint))
    if not isinstance(root.value, dict):
        what = f"expected a mapping, with keys such as 'task:' and 'input:'; got {root.describe()}"
        raise Malformed(Finding(root.place, (), what))
    return root


def read_value(text: str, place: Place, findings: list[Finding]) -> Node:
    """The value that a flag of the command line holds: a scalar, or a list or mapping in brackets.

    Raises:
        Malformed: it is no YAML.
    """
    return _TreeBuilder(text, place, findings, is_file=False).read()


class _TreeBuilder:
    """Builds one tree from the parser's events, counting aliases and depth as it goes."""

    def __init__(self, text: str, place: Place, findings: list[Finding], *, is_file: bool) -> None:
        self._yaml = YAML(typ="safe", pure=True)
        self._text = text
        self._place = place
        self._findings = findings
        self._is_file = is_file
        self._anchors: dict[str, Node] = {}
        self._aliases = 0
        self._events: Iterator[Event] = iter(())

    def read(self) -> Node:
        """The text's only document; null if there is none."""
        try:
            self._events = self._yaml.parse(self._text)
            next(self._events)  # the start of the stream
            root = Node(None, self._place)
            if isinstance(start := next(self._events), DocumentStartEvent):
                self._check_directives(start)
                root = self._node(next(self._events), ())
                next(self._events)  # the end of the document
                if not isinstance(event := next(self._events), StreamEndEvent):
                    self._refuse(event, "holds more than one document; '---' may stand only at the top")
        except YAMLError as error:
            raise Malformed(_explain(error, self._text, self._place, self._is_file)) from error
        return root

    def _node(self, event: Event, path: Path, key_place: Place | None = None) -> Node:
        place = key_place or self._where(event)
        if isinstance(event, AliasEvent):
            return replace(self._alias(event), place=place)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        if event.tag is not None:
            what = f"has the tag {str(event.tag).replace(_TAG, '!!')}; tags are not allowed"
            self._findings.append(Finding(place, path, what, "leave it out; quote what is meant as text"))
        if len(path) > _MAX_DEPTH:
            self._refuse(event, f"is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(event, MappingStartEvent):
            node = Node(self._mapping(path), place)
        elif isinstance(event, SequenceStartEvent):
            node = Node(self._sequence(path), place)
        else:
            assert isinstance(event, ScalarEvent)
            node = Node(self._scalar(event), place)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent) -> Node:
        self._aliases += 1
        if self._aliases > _MAX_ALIASES:
            self._refuse(event, f"has more than {_MAX_ALIASES} aliases (*name)", "write the values out")
        if event.anchor not in self._anchors:
            self._refuse(event, f"has the alias *{event.anchor}, but no &{event.anchor} before it")
        return self._anchors[event.anchor]

    def _mapping(self, path: Path) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            place = self._where(event)
            key = self._node(event, path).value
            child = self._node(next(self._events), (*path, key if isinstance(key, str) else "?"), place)
            if not isinstance(key, str):
                what = "has a key that is not text" if path else "the spec has a key that is not text"
                self._findings.append(Finding(place, path, what, "put the key in quotes"))
            elif key == "<<":
                hint = "write the keys out"
                self._findings.append(Finding(place, (*path, key), "merge keys are not YAML 1.2", hint))
            elif key in entries:
                what = f"is given twice; the first is on line {entries[key].place.line}"
                self._findings.append(Finding(place, (*path, key), what, "leave one of them out"))
            else:
                entries[key] = child
        return entries

    def _sequence(self, path: Path) -> tuple[Node, ...]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return tuple(items)

    def _scalar(self, event: ScalarEvent) -> Scalar:
        """The value by the YAML 1.2 core schema; dates, and numbers that are not finite, stay text."""
        kind = str(self._yaml.resolver.resolve(ScalarNode, event.value, event.implicit)).removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool":
            return bool(event.value.lower() == "true")
        if kind in ("int", "float"):
            build = getattr(self._yaml.constructor, f"construct_yaml_{kind}")
            with suppress(ValueError):  # an integer of thousands of digits
                number = build(ScalarNode(_TAG + kind, event.value))
                return (int(number) if kind == "int" else float(number)) if isfinite(number) else event.value
        return str(event.value)

    def _check_directives(self, event: DocumentStartEvent) -> None:
        if event.version is not None and tuple(event.version) != (1, 2):
            self._refuse(event, "is not YAML 1.2", "leave out the %YAML line")

    def _where(self, event: Event) -> Place:
        return Place(self._place.name, event.start_mark.line + 1) if self._is_file else self._place

    def _refuse(self, event: Event, what: str, hint: str = "") -> None:
        raise Malformed(Finding(self._where(event), (), what, hint))


def _explain(error: YAMLError, text: str, place: Place, is_file: bool) -> Finding:
    """What the parser has to say, with the line and column, without its excerpt of the text."""
    if isinstance(error, MarkedYAMLError):
        mark: StreamMark = error.problem_mark or error.context_mark
        line, column = mark.line + 1, mark.column + 1
        what = ", ".join(part for part in (error.problem, error.context) if part)
        what = re.sub(r"\('(.+?)',\)", r"'\1'", what)  # the parser shows a character as a tuple
        if error.context_mark and error.context_mark.line + 1 != line:
            what += f" that began on line {error.context_mark.line + 1}"
    else:
        position = getattr(error, "position", 0)
        before = text[:position]
        line, column = before.count("\n") + 1, position - before.rfind("\n")
        what = "a control character"
    hint = next((hint for sign, hint in _HINTS if sign in what), "")
    where = Place(place.name, line) if is_file else place
    return Finding(where, (), f"is not YAML at column {column}: {what}", hint)
