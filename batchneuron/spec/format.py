"""A spec as YAML: what `parse` reads back as the same spec."""

from __future__ import annotations

import io

from ruamel.yaml import YAML

from batchneuron.spec.sections import JobSpec


def format_spec(spec: JobSpec, comment: str = "") -> str:
    """The YAML of a spec, what is default left out; the comment comes first, line by line."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    text = io.StringIO()
    yaml.dump(spec.model_dump(mode="json", exclude_defaults=True), text)
    return "".join(f"# {line}\n" for line in comment.splitlines()) + text.getvalue()
