"""A YAML file to a JobSpec, or all its mistakes at once.

Reads the file, puts in what `--set` and `${env:NAME}` say, fills in what was left out, and collects
the findings of every check before giving up. The only place where a spec meets the environment.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import models_json_schema

from batchneuron.errors import Problem, SpecError
from batchneuron.spec.document import MAX_BYTES, Malformed, read_document, read_value
from batchneuron.spec.inputs import TaskInputs, find_wrong_inputs
from batchneuron.spec.located import Finding, Node, Place
from batchneuron.spec.problems import find_mistakes, validate
from batchneuron.spec.rules import find_broken_rules, find_unfit_texts, sort_ladder, split_hub_id
from batchneuron.spec.sections import JobSpec, Section

Options = Mapping[str, type[BaseModel]]
Inputs = Mapping[str, TaskInputs]
_VARIABLE = re.compile(r"\$\{env:([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load_spec(
    path: Path,
    overrides: Sequence[str] = (),
    options: Options | None = None,
    inputs: Inputs | None = None,
) -> JobSpec:
    """The job that a YAML file describes; see `parse_spec`."""
    return parse_spec(_read_text(path), str(path), overrides, options, inputs)


def parse_spec(
    text: str,
    name: str,
    overrides: Sequence[str] = (),
    options: Options | None = None,
    inputs: Inputs | None = None,
) -> JobSpec:
    """The job that a YAML text describes, complete and consistent.

    Args:
        text: The YAML document.
        name: The file's name, for messages and for the job that has no name of its own.
        overrides: `key.sub=value` each, applied in order before anything is checked.
        options: The model of each task's options; a task that has none here takes any mapping.
        inputs: What each task can be fed with; of one that has none here, any column is taken.

    Raises:
        SpecError: with every problem of the document, in the order of its lines.
    """
    findings: list[Finding] = []
    try:
        root = read_document(text, name, findings)
    except Malformed as error:
        raise _to_error([*findings, error.finding]) from error
    root = _override(root, overrides, findings)
    unfit: list[Finding] = []
    root = _interpolate(root, unfit)
    unfit += find_unfit_texts(root)
    root = sort_ladder(split_hub_id(_fill_in(root), findings))
    model = _choose_model(root, options or {})
    findings += [*find_mistakes(model, root), *find_broken_rules(root), *_check_inputs(root, inputs or {})]
    # A text that must not be there at all is not judged any further.
    settled = {finding.path for finding in unfit}
    findings = unfit + [finding for finding in findings if not finding.path or finding.path not in settled]
    if findings:
        raise _to_error(findings)
    spec = validate(JobSpec, root)
    return spec if spec.name is not None else spec.model_copy(update={"name": Path(name).stem})


def json_schema(options: Options | None = None) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a spec, for editors; `options` depend on the task."""
    models = [(model, "validation") for model in (JobSpec, *(options or {}).values())]
    references, schema = models_json_schema(models)  # type: ignore[arg-type]
    definitions = schema["$defs"]
    job = definitions.pop(references[JobSpec, "validation"]["$ref"].rpartition("/")[2])
    for key, field in job["properties"].items():
        if key not in job["required"] and "anyOf" not in field:
            described = {
                word: field.pop(word) for word in ("default", "description", "title") if word in field
            }
            job["properties"][key] = {"anyOf": [field, {"type": "null"}], **described}
    job["allOf"] = [
        {
            "if": {"properties": {"task": {"const": task}}, "required": ["task"]},
            "then": {
                "properties": {"options": {"anyOf": [references[model, "validation"], {"type": "null"}]}}
            },
        }
        for task, model in (options or {}).items()
    ]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **job, "$defs": definitions}


def _override(root: Node, overrides: Iterable[str], findings: list[Finding]) -> Node:
    """The document with the values of the command line in it."""
    for override in overrides:
        place = Place(f"--set {override}")
        key, equals, text = override.partition("=")
        path = tuple(key.split("."))
        if not equals or not all(path):
            findings.append(Finding(place, (), "expected key=value, as in shapes.batch_size=8"))
            continue
        if outer := _find_barrier(root, path):
            findings.append(Finding(place, path, f"{outer} is not a mapping, so it has no keys to set"))
            continue
        try:
            root = root.put(path, read_value(text, place, findings))
        except Malformed as error:
            hint = f"quote a text twice: --set {key}=\"'…'\""
            findings.append(replace(error.finding, path=path, hint=hint))
    return root


def _find_barrier(root: Node, path: tuple[str, ...]) -> str:
    """The key on the way to a path that holds a value other than a mapping, or an empty text."""
    for length in range(1, len(path)):
        node = root.get(*path[:length])
        if node is not None and node.value is not None and not isinstance(node.value, dict):
            return ".".join(path[:length])
    return ""


def _interpolate(node: Node, findings: list[Finding], path: tuple[str | int, ...] = ()) -> Node:
    """The document with `${env:NAME}` in its texts replaced by the variables' values."""
    if isinstance(node.value, dict):
        entries = {key: _interpolate(child, findings, (*path, key)) for key, child in node.value.items()}
        return replace(node, value=entries)
    if isinstance(node.value, tuple):
        items = enumerate(node.value)
        return replace(node, value=tuple(_interpolate(item, findings, (*path, n)) for n, item in items))
    if not isinstance(node.value, str) or not (found := list(_VARIABLE.finditer(node.value))):
        return node
    wrong = [problem for match in found if (problem := _check_variable(*match.groups()))]
    if wrong:
        findings.append(Finding(node.place, path, *wrong[0]))
        return node
    text = _VARIABLE.sub(lambda match: os.environ[match[1]], node.value)
    return replace(node, value=text, written=node.value)


def _check_variable(name: str, brace: str) -> tuple[str, str] | None:
    """What is wrong with a variable of the environment, and a hint."""
    if not brace or not _NAME.fullmatch(name):
        return "has a '${env:' that is not the name of a variable", "write ${env:NAME}"
    if name not in os.environ:
        return f"the environment variable {name} is not set", f"set {name}, or write the value"
    return None


def _fill_in(root: Node) -> Node:
    """The document less the keys given as null, which mean their defaults, and with all sections."""
    root = _drop_nulls(JobSpec, root)
    for name, field in JobSpec.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            node = root.get(name) or Node({}, root.place)
            node = replace(node, value={}) if node.value is None else node
            root = root.put((name,), _drop_nulls(section, node))
    return root if root.get("options") else root.put(("options",), Node({}, root.place))


def _drop_nulls(section: type[BaseModel], node: Node) -> Node:
    if not isinstance(node.value, dict):
        return node
    optional = {name for name, field in section.model_fields.items() if not field.is_required()}
    kept = {key: child for key, child in node.value.items() if child.value is not None or key not in optional}
    return replace(node, value=kept)


def _choose_model(root: Node, options: Options) -> type[JobSpec]:
    """The JobSpec whose options are those of the document's task."""
    task = root.get("task")
    model = options.get(task.value) if task and isinstance(task.value, str) else None
    if model is None:
        return JobSpec
    described: Any = (model, Field(description=JobSpec.model_fields["options"].description))
    return create_model(JobSpec.__name__, __base__=JobSpec, options=described)


def _check_inputs(root: Node, inputs: Inputs) -> Iterator[Finding]:
    """What is wrong with the inputs of the document's task."""
    task = root.get("task")
    if task and isinstance(task.value, str) and task.value in inputs:
        yield from find_wrong_inputs(root, task.value, inputs[task.value])


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        where = str(path.absolute())
        raise SpecError((Problem(where, "", "there is no such file", _list_near_names(path)),)) from error
    except OSError as error:
        what = f"the file cannot be read: {(error.strerror or 'it is no file').lower()}"
        raise SpecError((Problem(str(path.absolute()), "", what),)) from error
    try:
        return content.decode("utf-8-sig", "strict" if len(content) <= MAX_BYTES else "replace")
    except UnicodeDecodeError as error:
        where = str(Place(str(path), content[: error.start].count(b"\n") + 1))
        hint = "save the file as UTF-8"
        raise SpecError(
            (Problem(where, "", f"is not UTF-8 text: byte 0x{content[error.start]:02x}", hint),)
        ) from error


def _list_near_names(path: Path) -> str:
    """A hint that names the specs of a file's folder, the nearest first."""
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = sorted(child.name for child in folder.iterdir() if child.suffix in (".yaml", ".yml"))
    if near := difflib.get_close_matches(path.name, names, n=1):
        return f"did you mean '{near[0]}'?"
    return f"specs in that folder: {', '.join(names[:5])}" if names else "that folder holds no YAML file"


def _to_error(findings: Sequence[Finding]) -> SpecError:
    """One error for all findings: those of the file by line, then those of the flags."""
    ordered = sorted(findings, key=lambda finding: (finding.place.line == 0, finding.place.line))
    return SpecError(tuple(finding.to_problem() for finding in ordered))
