"""What a JSON Schema expects, in plain words: "a whole number of at least 1, or auto".

Works on the schema that pydantic makes of a model, so that words and rules cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batchneuron.spec.located import Path

Schema = dict[str, Any]
_NOUNS = {
    "integer": ("a whole number", "whole numbers"),
    "number": ("a number", "numbers"),
    "string": ("text", "texts"),
    "boolean": ("true or false", "values true or false"),
    "array": ("a list", "lists"),
    "object": ("a mapping", "mappings"),
}
_BOUNDS = {
    "minimum": "of at least",
    "exclusiveMinimum": "above",
    "maximum": "of at most",
    "exclusiveMaximum": "below",
}


class Expected:
    """The expectations of one model, to be asked by path."""

    def __init__(self, schema: Schema) -> None:
        self._root = schema
        self._definitions: Schema = schema.get("$defs", {})

    def at(self, path: Path) -> tuple[Schema, ...]:
        """The schemas that a value at the path may follow, without references and unions."""
        schemas = tuple(self._iter_variants(self._root))
        for step in path:
            schemas = tuple(
                variant
                for schema in schemas
                for child in _iter_children(schema, step)
                for variant in self._iter_variants(child)
            )
        return schemas

    def keys(self, path: Path) -> tuple[str, ...]:
        """The keys that a mapping at the path may have, where they are fixed."""
        return tuple(key for schema in self.at(path) for key in schema.get("properties", ()))

    def choices(self, path: Path) -> tuple[str, ...]:
        """The words that a text at the path may be, where they are fixed."""
        listed = (
            schema.get("enum", [schema["const"]] if "const" in schema else []) for schema in self.at(path)
        )
        return tuple(choice for choices in listed for choice in choices if isinstance(choice, str))

    def kinds(self, path: Path) -> frozenset[str]:
        """The JSON types that a value at the path may have."""
        return frozenset(str(schema.get("type", "any")) for schema in self.at(path))

    def describe(self, path: Path) -> str:
        """The value expected at the path, in words."""
        return self._describe_all(self.at(path), many=False)

    def explain(self, path: Path) -> str:
        """What a text at the path is for, or an empty text."""
        texts = (schema for schema in self.at(path) if schema.get("type") == "string")
        return next(
            (str(schema.get("description", "")) for schema in texts if "enum" not in schema), ""
        ).rstrip(".")

    def find_key(self, key: str) -> tuple[str, ...]:
        """The sections, by name, that have this key."""
        return tuple(section for section in self.keys(()) if key in self.keys((section,)))

    def _iter_variants(self, schema: Schema) -> Iterator[Schema]:
        if "$ref" in schema:
            yield from self._iter_variants(self._definitions[schema["$ref"].rpartition("/")[2]])
        elif variants := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            for variant in variants:
                yield from self._iter_variants(variant)
        else:
            yield schema

    def _describe_all(self, schemas: tuple[Schema, ...], *, many: bool) -> str:
        named = [self._describe_one(schema, many=many) for schema in schemas if schema.get("type") != "null"]
        words = list(dict.fromkeys(named)) or ["nothing"]
        if len(words) > 1 and "text" in words and "a number" in words:
            words = [word for word in words if word != "a whole number"]
        return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}, or {words[-1]}"

    def _describe_one(self, schema: Schema, *, many: bool) -> str:
        if "const" in schema:
            return str(schema["const"])
        if "enum" in schema:
            return f"one of {', '.join(map(str, schema['enum']))}"
        noun = _NOUNS.get(str(schema.get("type")), ("any value", "any values"))[many]
        bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
        if bounds:
            return f"{noun} {' and '.join(bounds)}"
        if schema.get("minLength"):
            return f"{noun} that {'are' if many else 'is'} not empty"
        inner = schema.get("items") or schema.get("additionalProperties")
        if isinstance(inner, dict) and (variants := tuple(self._iter_variants(inner))):
            listed = self._describe_all(variants, many=True)
            if listed == "any values":
                return noun
            return f"{noun} {'of' if schema['type'] == 'array' else 'from names to'} {listed}"
        return noun


def _iter_children(schema: Schema, step: str | int) -> Iterator[Schema]:
    if isinstance(step, int):
        inner = schema.get("items")
    else:
        inner = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    if isinstance(inner, dict):
        yield inner
