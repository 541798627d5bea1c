"""Execute: items through the device, in full batches of static shapes, longest first.

Longest first, so that memory peaks at the start and not at hour five. A partial batch is filled with
copies of one of its own items: zeros would be a mask without a single token, which mean pooling
divides by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchneuron.backends.backend import Executable
from batchneuron.errors import ProgramError
from batchneuron.items import Items, OutputBatch, Outputs, Ragged, Tensor
from batchneuron.shapes import Ladder, Shape


@dataclass(frozen=True, slots=True)
class Executed:
    """What came back from the device for N items, and what it cost."""

    outputs: Outputs
    finite: NDArray[np.bool_]
    """Items without NaN or infinity in any output: [N]"""
    slots: int
    """Token places that were computed, padding and fillers included."""


def execute(
    items: Items,
    ladder: Ladder,
    executables: Sequence[Executable],
    vocabulary: int | None,
    on_batch: Callable[[int], None],
) -> Executed:
    """Outputs of all items.

    Args:
        items: N items, none longer than the longest shape.
        ladder: the shapes, shortest first.
        executables: one per shape, in the ladder's order.
        vocabulary: token ids must be below it; None where the program has none. A device reads out
            of bounds where a CPU would raise, so the host checks.
        on_batch: told the number of tokens of each finished batch.

    Raises:
        ProgramError: a token is outside the vocabulary, or an output is of a wrong shape.
    """
    _check_vocabulary(items, vocabulary)
    batches: list[OutputBatch] = []
    finite = np.ones(len(items), dtype=np.bool_)
    slots = 0
    for index, picks in _iter_batches(items, ladder):
        executable = executables[index]
        tensors = _run_batch(items, picks, executable)
        batches.append(OutputBatch(picks, tensors))
        finite[picks] = _find_finite(tensors, len(picks))
        slots += executable.shape.slots
        on_batch(int(items.lengths[picks].sum()))
    return Executed(Outputs(len(items), tuple(batches)), finite, slots)


def _iter_batches(items: Items, ladder: Ladder) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Shape index and items of each batch: longest shape first, items in order."""
    chosen = ladder.choose(items.lengths)
    for index in reversed(range(len(ladder.shapes))):
        members = np.flatnonzero(chosen == index)
        batch_size = ladder.shapes[index].batch_size
        for start in range(0, len(members), batch_size):
            yield index, members[start : start + batch_size]


def _run_batch(items: Items, picks: NDArray[np.intp], executable: Executable) -> tuple[Tensor, ...]:
    shape = executable.shape
    filled = np.concatenate([picks, np.repeat(picks[:1], shape.batch_size - len(picks))])
    outputs = executable(
        *(items.make_input(name, filled, shape.sequence_length) for name in executable.input_names)
    )
    _check_outputs(outputs, shape)
    return tuple(output[: len(picks)] for output in outputs)


def _check_outputs(outputs: Sequence[Tensor], shape: Shape) -> None:
    for output in outputs:
        if not output.ndim or output.shape[0] != shape.batch_size:
            raise ProgramError(
                f"an output of shape {output.shape}", f"shape {shape}", "this is a bug of ours"
            )


def _check_vocabulary(items: Items, vocabulary: int | None) -> None:
    ids = items.tensors.get("input_ids")
    if vocabulary is None or not isinstance(ids, Ragged) or not ids.values.size:
        return
    highest = int(ids.values.max())
    if highest >= vocabulary:
        raise ProgramError(
            f"token {highest} is outside the model's vocabulary of {vocabulary}",
            "model.id",
            "the tokenizer and the weights do not belong together",
        )


def _find_finite(tensors: Sequence[Tensor], count: int) -> NDArray[np.bool_]:
    finite = np.ones(count, dtype=np.bool_)
    for tensor in tensors:
        if np.issubdtype(tensor.dtype, np.floating):
            finite &= np.isfinite(tensor).reshape(count, -1).all(axis=1)
    return finite
