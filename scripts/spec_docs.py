"""Writes docs/spec.md from the spec's own models: keys, values, defaults, meanings; and the environment.

Run as `python scripts/spec_docs.py`; a test fails when the page is stale.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from batchneuron.spec.sections import JobSpec
from batchneuron.tasks import KINDS

PAGE = Path(__file__).parent.parent / "docs" / "spec.md"
_HEAD = """# Every key of a spec

Written by `python scripts/spec_docs.py` from the code; `batchneuron schema` prints the same as JSON Schema.
A key that is left out has its default; an unknown key is refused. In any text `${env:NAME}` stands for an
environment variable. Paths are relative to the folder the command is run in.
"""
_ENVIRONMENT = """
## The environment

Of a job it has nothing but what the spec asks for as `${env:NAME}`. Where things are, and who you are:

| variable | meaning |
|---|---|
| `HF_TOKEN` | The hub's token, for private and gated models and data sets. |
| `HF_HOME`, `HF_HUB_OFFLINE` | Where the hub's cache is, default: `~/.cache/huggingface`; `1`: ask no hub. |
| `XDG_CACHE_HOME` | Compiled programs and tokenizers are in `batchneuron` below it; default: `~/.cache`. |
| `TMPDIR` | For temporary files, and for parts on their way [to a bucket](s3.md#the-local-disk). |
| `AWS_PROFILE`, `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL` | As everywhere on AWS; [S3](s3.md). |
| `AWS_BATCH_JOB_ARRAY_INDEX`, `AWS_BATCH_JOB_ARRAY_SIZE` | Of [AWS Batch](aws-batch.md). |
| `NEURON_RT_VISIBLE_CORES`, `NEURON_RT_NUM_CORES` | Which cores, or [how many](neuron-reference.md). |
| `NEURON_LOGICAL_NC_CONFIG` | Physical cores in a logical one, where the spec says nothing. |
| `RAY_ADDRESS`, `RAY_AUTH_TOKEN` | The [cluster](ray.md), where `--address` names none; its token. |"""


def render_page() -> str:
    """The whole page, as Markdown."""
    sections = [_HEAD, "## Top level\n", _render_table(JobSpec, skip_sections=True)]
    for name, field in JobSpec.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            sections += [f"\n## `{name}`\n", (model.__doc__ or "").strip() + "\n", _render_table(model)]
    for kind in KINDS.values():
        sections += [f"\n## `options` of {kind.name}\n", f"Default model: `{kind.default_model}`.\n"]
        sections.append(_render_table(kind.options))
    return "\n".join([*sections, _ENVIRONMENT]) + "\n"


def _render_table(model: type[BaseModel], *, skip_sections: bool = False) -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        if skip_sections and is_section:
            continue
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_render_type(field)} | {_render_default(field)} | {meaning} |")
    return "\n".join(lines)


def _render_type(field: FieldInfo) -> str:
    return _name_type(field.annotation)


def _name_type(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is typing.Annotated:
        return _name_type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_name_type(each) for each in arguments if each is not type(None)))
    if origin is list:
        return f"list of {_name_type(arguments[0])}"
    if origin is dict:
        return "mapping"
    return {str: "text", int: "whole number", float: "number", bool: "`true`, `false`"}.get(kind, "any")


def _render_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render_page())
