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

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError

from batchneuron.backends.backend import CompileRequest
from batchneuron.errors import ModelError
from batchneuron.model import Model
from batchneuron.planning.shapes import Shape
from batchneuron.programs.attention import FiniteFills, use_finite_masks
from batchneuron.programs.signature import TensorSpec
from batchneuron.programs.text_inputs import CLASSIFIER, fit_padding, takes_types
from batchneuron.tasks import find_kind
from batchneuron.tasks.task import Task, TaskKind


class Program(torch.nn.Module):
    """A transformers model with a task's head behind it."""

    def __init__(self, model: torch.nn.Module, kind: TaskKind, task: Task, source: Model) -> None:
        """Bind a loaded model.

        Args:
            model: of the class that the kind names; here it is prepared for the task's head, and for padding.
            kind: says what goes in.
            task: its head comes behind the model.
            source: what it was loaded from.
        """
        super().__init__()
        accepted = set(inspect.signature(model.forward).parameters)
        if "token_type_ids" in accepted and not takes_types(model.config, source):
            accepted.remove("token_type_ids")
        optional = tuple(name for name in kind.optional_program_inputs if name in accepted)
        self.input_names = kind.program_inputs + optional
        self._model = model
        self._task = task
        self._sizes = kind.input_sizes(source)
        self._pad = fit_padding(model) if kind.auto_model == CLASSIFIER else None
        kind.prepare(model)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs of the head, of inputs in the order of `input_names`: [B, …] each."""
        named = dict(zip(self.input_names, inputs, strict=True))
        if self._pad is not None:
            named["input_ids"] = torch.where(named["attention_mask"] != 0, named["input_ids"], self._pad)
        if inputs[0].device.type != "xla":
            return self._task.head(self._model, named)
        with FiniteFills():
            return self._task.head(self._model, named)

    def input_specs(self, shape: Shape) -> tuple[TensorSpec, ...]:
        """What it takes when it is compiled for that shape, in the order of `input_names`."""
        tokens = (shape.batch_size, shape.sequence_length)
        return tuple(
            TensorSpec(name, (shape.batch_size, *self._sizes[name]), "float32")
            if name in self._sizes
            else TensorSpec(name, tokens, "int64")
            for name in self.input_names
        )

    def example_inputs(self, shape: Shape) -> tuple[torch.Tensor, ...]:
        """Inputs as a batch has them, always the same: what a compiler traces with.

        Rows are of different lengths, padded; ids are below the size of the vocabulary.
        """
        made = _make_tokens(shape, self._model.config)
        noise = np.random.default_rng(0)
        return tuple(
            torch.from_numpy(made[spec.name])
            if spec.name in made
            else torch.from_numpy(noise.standard_normal(spec.shape, dtype=np.float32))
            for spec in self.input_specs(shape)
        )


def _make_tokens(shape: Shape, config: Any) -> dict[str, NDArray[np.int64]]:
    """Every kind of integer input for texts of the full length, of half of it and between: [B, L] each."""
    rows, longest = shape.batch_size, shape.sequence_length
    lengths = np.linspace(longest, max(longest // 2, min(2, longest)), rows).astype(np.int64)[:, None]
    places = np.arange(longest)
    mask = (places < lengths).astype(np.int64)
    pad, vocabulary = getattr(config, "pad_token_id", None) or 0, getattr(config, "vocab_size", 1)
    ids = np.random.default_rng(0).integers(0, vocabulary, (rows, longest))
    ids = np.where(ids == pad, (pad + 1) % vocabulary, ids)
    types = getattr(config, "type_vocab_size", None) or 0
    second = (places >= lengths // 2) & (places < lengths) & (types > 1)
    return {
        "input_ids": np.where(mask, ids, pad),
        "attention_mask": mask,
        "token_type_ids": second.astype(np.int64),
        # One number for each item, in the first column.
        "mask_position": np.where(places == 0, lengths // 2, 0),
    }


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
    task = kind.open(model, kind.options.model_validate(dict(request.options)), None)
    if not model.trust_remote_code:  # whose authors may tell attention by its name
        use_finite_masks(loaded)
    program = Program(loaded, kind, task, model)
    return program.eval().requires_grad_(requires_grad=False)


def _require_weights(info: dict[str, Any], loader: str, folder: Path) -> None:
    """Refuse a model whose head would be random numbers.

    An encoder's pooler may be missing, because no head here reads what it gives; classifiers look through
    theirs, as BERT's and DeBERTa's do.
    """
    is_bare = loader == "AutoModel"
    missing = sorted(key for key in info.get("missing_keys", ()) if not (is_bare and "pooler" in key))
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
