"""Which source columns a job reads: those its task's inputs are made of, and those it carries through.

Pure: a spec and a schema in, a record out. A column that nothing names is never read.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from batchneuron.errors import ColumnMissing, Problem, SpecError
from batchneuron.spec.sections import InputSpec
from batchneuron.spec.template import Template, parse_template
from batchneuron.tasks.task import TaskKind

ROW, TRUNCATED, ERROR = "_row", "_truncated", "_error"
ERROR_TYPE = pa.struct([("code", pa.string()), ("message", pa.string())])


@dataclass(frozen=True, slots=True)
class Columns:
    """Task inputs by name, and output names of carried columns."""

    inputs: Mapping[str, Template]
    keep: Mapping[str, str]
    """Output name ← source column."""
    raw: frozenset[str] = frozenset()
    """Inputs that are a column as it is, not text."""
    lists: frozenset[str] = frozenset()
    """Inputs that are a column as it is where that is a list, and else text."""

    def pick_inputs(self, table: pa.Table) -> pa.Table:
        """The task's inputs: texts filled in, raw columns as they are."""
        return pa.table(
            {
                name: table[template.columns[0]]
                if self._is_raw(name, template, table)
                else template.fill(table)
                for name, template in self.inputs.items()
            }
        )

    def _is_raw(self, name: str, template: Template, table: pa.Table) -> bool:
        if name in self.raw:
            return True
        is_list = template.is_plain and _is_list(table.schema.field(template.columns[0]).type)
        return is_list and name in self.lists

    def needed(self, schema: pa.Schema) -> pa.Schema:
        """The part of a source's schema that has to be read, in its order."""
        names = {name for template in self.inputs.values() for name in template.columns} | set(
            self.keep.values()
        )
        return pa.schema([field.remove_metadata() for field in schema if field.name in names])

    def kept(self, schema: pa.Schema) -> pa.Schema:
        """The carried columns under their output names, types unchanged."""
        return pa.schema([(output, schema.field(column).type) for output, column in self.keep.items()])


def bind_columns(spec: InputSpec, kind: TaskKind, schema: pa.Schema, predictions: pa.Schema) -> Columns:
    """The job's columns, every one of them there.

    Without `input.columns` a column named like the task's input is taken. Without `input.keep` all columns
    are carried, and one that a prediction needs the name of is renamed `input_<name>`.

    Raises:
        SpecError: the spec names inputs the task does not have, or lacks one it needs.
        ColumnMissing: the source has no such column.
    """
    inputs = {name: parse_template(text) for name, text in _name_inputs(spec, kind, schema).items()}
    for name, template in inputs.items():
        if name in kind.raw_inputs and not template.is_plain:
            raise SpecError((Problem("spec", f"input.columns.{name}", "takes one column, not a template"),))
        for column in template.columns:
            _require(column, f"input.columns.{name}", schema)
    taken = {ROW, TRUNCATED, ERROR, *predictions.names}
    raw, lists = frozenset(kind.raw_inputs), frozenset(kind.list_inputs)
    return Columns(inputs, _name_kept(spec, schema, taken), raw, lists)


def assume_columns(spec: InputSpec, kind: TaskKind) -> pa.Schema:
    """The columns that a job names, as text: those of an input that has neither rows nor columns."""
    inputs = {name: name for name in kind.inputs} | spec.columns
    templates = [parse_template(text) for text in inputs.values()]
    kept = spec.keep.values() if isinstance(spec.keep, dict) else spec.keep or ()
    names = [*(column for template in templates for column in template.columns), *kept]
    return pa.schema([(name, pa.string()) for name in dict.fromkeys(names)])


def _name_inputs(spec: InputSpec, kind: TaskKind, schema: pa.Schema) -> dict[str, str]:
    known = (*kind.inputs, *kind.optional_inputs)
    problems = [
        Problem(
            "spec",
            f"input.columns.{name}",
            f"{kind.name} has no input '{name}'",
            f"it has {', '.join(known)}",
        )
        for name in spec.columns
        if name not in known
    ]
    if problems:
        raise SpecError(tuple(problems))
    named = dict(spec.columns)
    for name in kind.inputs:
        if name not in named and name not in schema.names:
            raise ColumnMissing(
                f"no column '{name}', which {kind.name} needs",
                spec.path,
                f"say which one it is: input.columns: {{{name}: …}}; there are {_list(schema)}",
            )
        named.setdefault(name, name)
    return named


def _name_kept(spec: InputSpec, schema: pa.Schema, taken: set[str]) -> dict[str, str]:
    if spec.keep is None:
        return {_free_name(name, taken, schema.names): name for name in schema.names}
    keep = spec.keep if isinstance(spec.keep, dict) else {name: name for name in spec.keep}
    for output, column in keep.items():
        _require(column, "input.keep", schema)
        if output in taken:
            hint = f"rename it: keep: {{input_{output}: {column}}}"
            raise SpecError(
                (Problem("spec", "input.keep", f"'{output}' is also a column of the output", hint),)
            )
    return dict(keep)


def _free_name(name: str, taken: set[str], names: list[str]) -> str:
    output = name
    while output in taken or (output != name and output in names):
        output = f"input_{output}"
    return output


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _require(column: str, where: str, schema: pa.Schema) -> None:
    if column in schema.names:
        return
    near = difflib.get_close_matches(column, schema.names, n=1)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ColumnMissing(f"no column '{column}' in the input", where, f"{hint}there are {_list(schema)}")


def _list(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "no columns at all"
