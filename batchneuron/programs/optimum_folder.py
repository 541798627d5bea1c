"""A folder that optimum-neuron compiled: `model.neuron`, the configuration, the tokenizer, and no weights.

The file is TorchScript with the program in it. It is loaded as it is, and so runs on what it was compiled for
alone; what it is compiled for stands in config.json under `neuron`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchneuron.errors import ModelError
from batchneuron.model import Model, digest_files, read_sentence_config

PROGRAM = "program"
"""Key under `neuron` of such a folder's model: the name of its one compiled file."""
_SECTION = "neuron"
_PATTERN = "*.neuron"
_TASKS = {"sentence-similarity": "feature-extraction"}


def is_compiled(folder: Path) -> bool:
    """Whether the folder is one of optimum-neuron's; ours have a section of the same name."""
    return any(folder.glob(_PATTERN)) or "compiler_type" in _read_section(folder)


def read_compiled(folder: Path, name: str) -> Model:
    """The model of such a folder, without weights; its digest is that of the compiled file and the rest.

    Its configuration's section is put in this project's words, so that it is read as a saved folder's is.

    Raises:
        ModelError: several files are compiled, or none, or nothing says what for.
    """
    compiled = sorted(folder.glob(_PATTERN))
    section = _read_section(folder)
    if len(compiled) != 1 or not section:
        there = "a" if section else "no"
        raise ModelError(
            f"{len(compiled)} compiled files, and {there} section '{_SECTION}' in config.json",
            str(folder),
            "a model of one file (model.neuron) can be opened; give the model that it was compiled from",
        )
    with compiled[0].open("rb") as file:
        own = hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256(f"{digest_files(folder, with_code=False)}{own}".encode()).hexdigest()
    config = json.loads((folder / "config.json").read_text())
    task = str(section.get("task"))
    kept: dict[str, Any] = {key: size for key, size in section.items() if key.startswith("static_")}
    kept |= {PROGRAM: compiled[0].name, "task": _TASKS.get(task, task), "model_digest": digest}
    return Model(
        id=name,
        folder=folder,
        commit=None,
        digest=digest,
        config={**config, _SECTION: kept},
        trust_remote_code=False,
        sentence=read_sentence_config(folder),
    )


def find_program(model: Model) -> Path | None:
    """The compiled file of a model that `read_compiled` gave; None for any other."""
    section: Mapping[str, Any] = model.config.get(_SECTION) or {}
    return model.folder / section[PROGRAM] if PROGRAM in section else None


def require_fitting(model: Model, task: str, shape: tuple[int, int], *, export: bool) -> None:
    """Refuse what such a model cannot be: another task's, of another shape, compiled anew.

    Raises:
        ModelError: it was compiled for something else, and there are no weights to compile.
    """
    if find_program(model) is None:
        return
    section = model.config[_SECTION]
    compiled = (section.get("static_batch_size"), section.get("static_sequence_length", shape[1]))
    serves = {section.get("task")} | (
        {"zero-shot-classification"} if section.get("task") == "text-classification" else set()
    )
    if export or compiled != shape or task not in serves:
        wished = f"{task}, {shape[0]}x{shape[1]}"
        raise ModelError(
            f"compiled by optimum-neuron for {section.get('task')}, {compiled[0]}x{compiled[1]}; asked for "
            f"is {'an export' if export else wished}",
            model.id,
            "it has no weights: give the model that it was compiled from",
        )


def _read_section(folder: Path) -> dict[str, Any]:
    """What config.json says under `neuron`, where another program wrote it."""
    try:
        section = json.loads((folder / "config.json").read_text()).get(_SECTION)
    except (OSError, ValueError, AttributeError):
        return {}
    return dict(section) if isinstance(section, Mapping) and "model_digest" not in section else {}
