"""Padding: whether a model gives a text by itself the outputs that it gives the same text padded.

XLNet, FNet and ConvBERT do not: their convolutions, Fourier transforms or token types reach into the padding,
and a row's answer follows from the shape that it happens to be in. Comparing a program with the reference
cannot show it, because both get the same batches. What is looked at here is the reference alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchneuron.backends.backend import Backend, CompileRequest, Executable
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import ParityError, SpecError
from batchneuron.planning.shapes import Shape
from batchneuron.programs.agreement import find_tolerance
from batchneuron.spec.sections import JobSpec
from batchneuron.stages.execute import require_tokens
from batchneuron.stages.items import Items, Tensor
from batchneuron.stages.tokenize import Limit, Tokenizer
from batchneuron.tasks import find_kind

Load = Callable[[Shape], Executable]
"""The reference for a shape."""
_LIMIT = find_tolerance("float32").output_error
_TEXTS = 8
_SLOTS = 1024  # longer shapes get fewer texts, two at least: the reference is slow
_LEAST_LENGTH = 0.05  # outputs nearer to zero than this are compared as if they were this long
_MARK = "padding.json"
_WORDS = (
    "the",
    "time",
    "of",
    "a",
    "people",
    "and",
    "year",
    "1",
    "way",
    "in",
    "day",
    "2",
    "man",
    "that",
    "thing",
)


def measure_padding(items: Items, length: int, load: Load) -> float | None:
    """How far outputs of a padded item are from those of the item alone, relative to their length: the worst.

    Args:
        items: some eight are taken, from the shortest to the longest.
        length: what they are padded to.
        load: gives the reference.

    Returns:
        Infinity: an item cannot be run alone. None: no item is padded in that shape, or they are no texts.
    """
    shorter = np.flatnonzero(items.lengths < length)
    if "input_ids" not in items.tensors or not len(shorter):
        return None
    ordered = shorter[np.argsort(items.lengths[shorter], kind="stable")]
    count = min(len(ordered), max(2, min(_TEXTS, _SLOTS // length)))
    picks = ordered[np.linspace(0, len(ordered) - 1, count).round().astype(np.intp)]
    padded = _run(load, items, picks, length)
    worst = 0.0
    for place, pick in enumerate(picks):
        try:
            alone = _run(load, items, picks[place : place + 1], int(items.lengths[pick]))
        except RuntimeError:  # padded it could be: of lengths, some models take only multiples of a block
            return float("inf")
        worst = max(worst, _measure_gap([each[place] for each in padded], [each[0] for each in alone]))
    return worst


def require_alike(error: float | None, where: str) -> None:
    """Let a model through that padding does not change.

    Raises:
        ParityError: it does; with the figure.
    """
    if error is not None and error > _LIMIT:
        raise ParityError(
            f"the model's outputs depend on padding, in PyTorch as in any program: {_tell(error)}",
            where,
            "no sequence_length helps: choose another model; a job with backend.parity_rows: 0 takes answers "
            "that change with the shapes",
        )


def _tell(error: float) -> str:
    if np.isinf(error):
        return "without padding it cannot be run at all"
    return f"a text alone and the same text padded differ by {error:.2%}, at most {_LIMIT:.1%} is allowed"


def require_known(request: CompileRequest, length: int, folder: Path, load: Load) -> None:
    """Let a model through that padding does not change, looked at with made-up texts, once for an artifact.

    Args:
        request: the program, of a task with or without texts.
        length: what texts are padded to.
        folder: the artifact's, where a mark is left.
        load: gives the reference; called only where it is not known yet.

    Raises:
        ParityError: it changes its outputs.
    """
    kind = request.kind or find_kind(request.task)
    if "input_ids" not in kind.program_inputs or (folder / _MARK).is_file():
        return
    items = _make_items(request, len(kind.inputs) > 1, length)
    error = None if items is None else measure_padding(items, length, load)
    require_alike(error, request.model.id)
    with suppress(OSError):  # where it cannot be written, it is looked at again
        (folder / _MARK).write_text(json.dumps({"error": error}))


def open_reference(backend: Backend, spec: JobSpec, request: CompileRequest, folder: Path) -> Load:
    """The reference of a program: the artifact itself where it is that, else eager float32 on the CPU."""
    if backend.facts.is_reference and not backend.facts.compiles_per_shape:
        return lambda shape: backend.load(folder, shape, request)
    eager = spec.backend.model_copy(update={"kind": "torch", "precision": "float32", "compiler_args": {}})
    reference = TorchBackend(eager, spec.model, threads=len(os.sched_getaffinity(0)))
    return lambda shape: reference.load(Path("reference"), shape, request)


def _make_items(request: CompileRequest, is_pair: bool, length: int) -> Items | None:
    """Texts of one word to nearly the length; None: none has room, or the tokens are not the model's."""
    try:
        counts = [1 + length * step // (_TEXTS + 2) for step in range(_TEXTS)]
        texts = [" ".join(islice(cycle(_WORDS), step, step + count)) for step, count in enumerate(counts)]
        tokenizer = Tokenizer(request.model)
        limit = Limit(min(length - 1, tokenizer.model_limit_tokens), "truncate")
        items = tokenizer.encode(texts, texts[::-1] if is_pair else None, limit).items
        require_tokens(items, request.model.config.get("vocab_size"))
    except (OSError, ValueError, SpecError):
        return None
    return items


def _run(load: Load, items: Items, picks: NDArray[np.intp], length: int) -> tuple[Tensor, ...]:
    """Outputs of the reference for some items in one batch: [len(picks), …] each."""
    executable = load(Shape(len(picks), length))
    return executable(*(items.make_input(name, picks, length) for name in executable.input_names))


def _measure_gap(padded: Sequence[Tensor], alone: Sequence[Tensor]) -> float:
    """How far an item's outputs that are numbers are apart, relative to their length; padding is cut off."""
    gap = size = 0.0
    for one, other in zip(padded, alone, strict=True):
        if not np.issubdtype(other.dtype, np.floating):
            continue
        mine = (one if one.shape == other.shape else one[: len(other)]).astype(np.float64)
        is_finite = np.isfinite(other) & np.isfinite(mine)  # a row with NaN or infinity is rejected anyway
        gap += float(((mine - other)[is_finite] ** 2).sum())
        size += float((other[is_finite].astype(np.float64) ** 2).sum())
    return float(np.sqrt(gap) / max(np.sqrt(size), _LEAST_LENGTH))
