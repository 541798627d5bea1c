"""A spec to begin with: commented, valid, and fitted to the input where it can be looked at.

Columns are guessed from the input's schema alone; no value is read. Whatever is a guess says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from batchneuron.errors import BatchNeuronError
from batchneuron.sources import open_source
from batchneuron.spec.sections import InputSpec
from batchneuron.tasks import find_kind
from batchneuron.tasks.task import TaskKind

# Names that datasets give to a task's inputs, the likeliest first.
_USUAL = {
    "text": ("sentence", "content", "body", "review", "description", "definition", "title", "sentence1"),
    "question": ("query",),
    "context": ("passage", "document", "text", "body", "content"),
    "image": ("img", "picture", "photo", "bytes", "path"),
}
_PLAIN = re.compile(r"[A-Za-z_/.~][\w/.@~-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "~"}
_INDENT = 34
_OPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "feature-extraction": (
        ("# pooling: mean", "mean, cls, max, last, none; default: what the model's folder says"),
        ("# normalize: true", "vectors of length 1"),
    ),
    "fill-mask": (("top_k: 5", "words for each mask"),),
    "text-classification": (("top_k: 1", "1: label and score; more: a list of them"),),
    "token-classification": (("aggregation_strategy: simple", "none, simple, first, average, max"),),
    "question-answering": (("top_k: 1", "answers of a row"),),
    "zero-shot-classification": (
        ("candidate_labels: [good, bad]", "yours; or a column, as input.columns.candidate_labels"),
        ("multi_label: false", "true: each label by itself"),
    ),
    "image-classification": (("top_k: 5", "labels of an image"),),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user says about the job to begin."""

    task: str
    model: str | None = None
    """Hub id or folder; None: the task's default."""
    input: str | None = None
    """As `input.path`; None: a place to fill in."""
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Starter:
    """A spec as text, and what was guessed in it."""

    text: str
    notes: tuple[str, ...]


def make_starter(wish: Wish) -> Starter:
    """A spec for a task; its columns are those of the input, where that is there.

    Raises:
        SpecError: there is no such task.
    """
    kind = find_kind(wish.task)
    schema, trouble = _read_schema(wish.input)
    columns = {name: guess_column(name, schema) if schema else None for name in kind.inputs}
    notes = [*_tell_columns(columns, kind, schema)] if schema else [trouble]
    return Starter("\n".join(_write(wish, kind, columns)) + "\n", tuple(note for note in notes if note))


def guess_column(name: str, schema: pa.Schema) -> str | None:
    """The column that a task's input is likeliest to be; None where none will do.

    One of that name, else one of a usual name, else the first that has texts (for images: bytes or structs).
    """
    fits = _holds_image if name == "image" else _holds_text
    fitting: list[str] = [field.name for field in schema if fits(field.type)]
    by_lower = {column.lower(): column for column in reversed(fitting)}
    for usual in (name, *_USUAL.get(name, ())):
        if usual in by_lower:
            return by_lower[usual]
    return next(iter(fitting), None)


def _read_schema(path: str | None) -> tuple[pa.Schema | None, str]:
    """The input's columns, or why they are not known."""
    if path is None:
        return None, "no --input: fill in input.path and input.columns"
    try:
        return open_source(InputSpec(path=path)).inventory().schema, ""
    except BatchNeuronError as error:
        return None, f"the input was not looked at: {error.what}"


def _tell_columns(columns: dict[str, str | None], kind: TaskKind, schema: pa.Schema) -> Iterator[str]:
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    for name, column in columns.items():
        if column is None:
            yield f"no column of the input fits '{name}', which {kind.name} needs; there are {there}"
        elif column != name:
            yield f"guessed: input.columns.{name} is '{column}'; there are {there}"


def _write(wish: Wish, kind: TaskKind, columns: dict[str, str | None]) -> Iterator[str]:
    """The lines of the file."""
    yield "# Made by `batchneuron init`. What is left out has a default; `batchneuron schema` has all keys."
    yield f"task: {kind.name}"
    yield "model:"
    yield _line(
        f"  id: {_scalar(wish.model or kind.default_model)}", "hub id, org/name@revision, or a folder"
    )
    yield "input:"
    place = "file, folder, glob, s3:// URI, hub data set"
    yield _line(f"  path: {_scalar(wish.input or 'rows.parquet')}", place)
    yield "  columns:"
    for name, column in columns.items():
        if column is None:
            told = "a column" if name in kind.raw_inputs else 'a column, or a template: "{title} {body}"'
        else:
            told = "" if column == name else "guessed from the input's schema"
        yield _line(f"    {name}: {_scalar(column or name)}", told)
    for name in kind.optional_inputs:
        yield f"    # {name}: a_column"
    yield _line("  # keep: [id]", "columns carried through; default: all")
    yield _line("  # limit: 1000", "only the first so many rows, to try it")
    yield "options:"
    for text, told in _OPTIONS[kind.name]:
        yield _line(f"  {text}", told)
    yield "output:"
    yield _line(f"  path: {_scalar(wish.output or f'out/{kind.name}')}", "the run folder")
    yield "# backend:"
    yield _line("#   kind: auto", "cpu, torch, neuron-trace (Inf2, Trn1), neuron (Trn2, Trn3)")
    yield "# errors:"
    yield _line("#   max_rejected: 0.01", "share or number of rows that may be rejected")


def _line(text: str, told: str) -> str:
    return f"{text:<{_INDENT}}  # {told}" if told else text


def _scalar(text: str) -> str:
    """The text as YAML reads it back: bare where that is safe, else in double quotes."""
    is_plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _holds_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _holds_image(kind: pa.DataType) -> bool:
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(is_bytes or pa.types.is_struct(kind)) or _holds_text(kind)
