"""The program: the torch module that a backend compiles, encoder plus the task's head.

Positional integer tensors in, a tuple of tensors out, because that is what every compiler here takes.
The one module, beside the torch backends, that imports torch.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError

from batchneuron.backends.backend import CompileRequest
from batchneuron.errors import ModelError
from batchneuron.tasks import find_kind
from batchneuron.tasks.task import Task, TaskKind


class Program(torch.nn.Module):
    """A transformers model with a task's head behind it."""

    def __init__(self, model: torch.nn.Module, kind: TaskKind, task: Task) -> None:
        super().__init__()
        accepted = inspect.signature(model.forward).parameters
        optional = tuple(name for name in kind.optional_program_inputs if name in accepted)
        self.input_names = kind.program_inputs + optional
        self._model = model
        self._task = task

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs of the head, of inputs in the order of `input_names`: [B, …] each."""
        return self._task.head(self._model, dict(zip(self.input_names, inputs, strict=True)))


def load_program(request: CompileRequest, dtype: str) -> Program:
    """The program in eval mode, its weights read from safetensors as `dtype`.

    Raises:
        ModelError: the folder is not a model of the task's kind, or lacks weights that the head needs.
    """
    kind, model = request.kind or find_kind(request.task), request.model
    loader = getattr(transformers, kind.auto_model)
    with quiet_transformers():
        try:
            loaded, info = loader.from_pretrained(
                model.folder,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=model.trust_remote_code,
                local_files_only=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{kind.auto_model} cannot load it: {error}", str(model.folder)) from error
    _require_weights(info, kind.auto_model, model.folder)
    task = kind.open(model, kind.options.model_validate(dict(request.options)))
    program = Program(loaded, kind, task)
    return program.eval().requires_grad_(requires_grad=False)


def _require_weights(info: dict[str, Any], loader: str, folder: Path) -> None:
    """Refuse a model whose head would be random numbers; an unused pooler may be missing."""
    missing = sorted(key for key in info.get("missing_keys", ()) if "pooler" not in key)
    if missing:
        named = ", ".join(missing[:4]) + (" …" if len(missing) > 4 else "")
        raise ModelError(
            f"{loader} needs weights that are not there: {named}",
            str(folder),
            "choose a model that was trained for this task",
        )


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars or advice while a model loads; what matters is raised."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        transformers.logging.enable_progress_bar()
