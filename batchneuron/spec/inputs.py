"""What a task can be fed with: the names that `input.columns` may have, and what must not be left out.

The tasks say it (`tasks/`); the rules are told with all other mistakes of a spec.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from batchneuron.spec.located import Finding, Node


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """The inputs of one task."""

    names: tuple[str, ...]
    """All that `input.columns` may name."""
    or_options: tuple[str, ...] = ()
    """Those of them that must be given as a column, or else as the option of the same name."""


def find_wrong_inputs(root: Node, task: str, inputs: TaskInputs) -> Iterator[Finding]:
    """Columns for inputs that the task does not have, and inputs that neither column nor option gives."""
    columns, options = root.get("input", "columns"), root.get("options")
    given = columns.children if columns else {}
    for name, node in given.items():
        if name not in inputs.names:
            near = difflib.get_close_matches(name.lower(), inputs.names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(inputs.names)}"
            yield Finding(node.place, ("input", "columns", name), f"{task} has no input '{name}'", hint)
    if options is None or not isinstance(options.value, dict):
        return
    named = [*given, *(name for name, node in options.children.items() if node.value is not None)]
    for name in inputs.or_options:
        if not difflib.get_close_matches(name, named, n=1):  # one that is near was told as misspelt
            hint = f"set it, or name a column with each row's own: input.columns: {{{name}: …}}"
            yield Finding(options.place, ("options", name), "is missing", hint)
