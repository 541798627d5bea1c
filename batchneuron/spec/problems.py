"""Pydantic's errors in plain words: one finding per key, with the place it was written.

Knows pydantic's way of reporting (one error per branch of a union, places without lines) and turns
it around: the value is described by what the schema expects there, see `expected.py`.
"""

from __future__ import annotations

import difflib
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from batchneuron.spec.expected import Expected
from batchneuron.spec.located import Finding, Node, Path, join_path

_YAML_1_1_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
Model = TypeVar("Model", bound=BaseModel)
_PASSED_ON = ("value_error", "assertion_error")


def find_mistakes(model: type[BaseModel], root: Node) -> list[Finding]:
    """All that keeps the document from being the model, at most one finding per key."""
    try:
        validate(model, root)
    except ValidationError as error:
        by_path: dict[Path, dict[str, Any]] = {}
        for detail in error.errors(include_url=False, include_input=False):
            by_path.setdefault(_find_path(root, detail), dict(detail))
        paths = [path for path in by_path if not any(_is_within(other, path) for other in by_path)]
        teller = _Teller(root, Expected(model.model_json_schema()))
        return teller.tell({path: by_path[path] for path in paths})
    return []


def validate(model: type[Model], root: Node) -> Model:
    """The document as the model; no value changes its type on the way.

    Raises:
        ValidationError: it is not one.
    """
    # Strict rules of JSON, where a list may be a tuple or a set, and a text an enumeration.
    return model.model_validate_json(json.dumps(root.plain()), strict=True)


class _Teller:
    """Tells the errors of one document in words."""

    def __init__(self, root: Node, expected: Expected) -> None:
        self._root = root
        self._expected = expected

    def tell(self, errors: dict[Path, dict[str, Any]]) -> list[Finding]:
        """One finding per error, less the missing keys that were merely misspelt."""
        findings = []
        meant: set[Path] = set()
        for path, error in errors.items():
            if error["type"] == "extra_forbidden":
                near = next(
                    iter(difflib.get_close_matches(str(path[-1]).lower(), self._siblings(path), n=1)), None
                )
                meant.update([(*path[:-1], near)] if near and self._is_free((*path[:-1], near)) else [])
                findings.append(self._tell_unknown(path, near))
        for path, error in errors.items():
            if error["type"] == "missing" and not any(path[: len(outer)] == outer for outer in meant):
                findings.append(self._tell_missing(path))
            elif error["type"] not in ("missing", "extra_forbidden"):
                findings.append(self._tell_wrong(path, error))
        return findings

    def _tell_unknown(self, path: Path, near: str | None) -> Finding:
        node = self._root.get(*path) or self._root
        key = str(path[-1])
        if near:
            hint = f"did you mean '{near}'?"
        elif elsewhere := [f"'{section}.{key}'" for section in self._expected.find_key(key)]:
            hint = f"did you mean {' or '.join(elsewhere)}?"
        else:
            hint = f"known keys: {', '.join(self._siblings(path)) or 'none'}"
        return Finding(node.place, path, "is not a known key", hint)

    def _tell_missing(self, path: Path) -> Finding:
        section = self._root.get(*path[:-1]) or self._root
        hint = self._expected.explain(path) or f"expected {self._expected.describe(path)}"
        return Finding(section.place, path, "is missing", hint)

    def _tell_wrong(self, path: Path, error: dict[str, Any]) -> Finding:
        node = self._root.get(*path) or self._root
        if error["type"] in _PASSED_ON:
            return Finding(node.place, path, str(error["msg"]).partition(", ")[2])
        what = f"expected {self._expected.describe(path)}; got {node.describe()}"
        return Finding(node.place, path, what, self._suggest(path, node))

    def _suggest(self, path: Path, node: Node) -> str:
        """What was probably meant, or an empty text."""
        kinds = self._expected.kinds(path)
        if not isinstance(node.value, str):
            is_text = "string" in kinds and not self._expected.choices(path)
            return "put the value in quotes" if is_text and _may_be_unquoted(node) else ""
        text = node.value
        if near := difflib.get_close_matches(text.lower(), self._expected.choices(path), n=1):
            return f"did you mean '{near[0]}'?"
        if "boolean" in kinds and text.lower() in _YAML_1_1_BOOLEANS:
            return f"write {_YAML_1_1_BOOLEANS[text.lower()]}"
        if node.written:
            return f"a variable's value is text; use --set {join_path(path)}=… for anything else"
        is_digits = text.removeprefix("-").isdecimal()
        return "leave the quotes out" if is_digits and kinds & {"integer", "number"} else ""

    def _siblings(self, path: Path) -> tuple[str, ...]:
        return self._expected.keys(path[:-1])

    def _is_free(self, path: Path) -> bool:
        """Whether nothing was given there; a required section that was left out is an empty mapping."""
        node = self._root.get(*path)
        return node is None or node.value == {}


def _find_path(root: Node, error: Any) -> Path:
    """Where in the document an error is, without the names of union branches that pydantic puts between."""
    path: Path = ()
    steps = error["loc"]
    is_missing = error["type"] == "missing"
    for step in steps[:-1] if is_missing else steps:
        if root.get(*path, step) is not None:
            path = (*path, step)
    return (*path, steps[-1]) if is_missing else path


def _may_be_unquoted(node: Node) -> bool:
    """Whether a value may have been meant as text: a number, true, or `{title}`, a mapping to nothing."""
    if isinstance(node.value, dict):
        return bool(node.value) and all(child.value is None for child in node.value.values())
    return node.value is not None and not isinstance(node.value, tuple)


def _is_within(path: Path, outer: Path) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer
