"""Execute: items through the device, in batches of static shapes, longest first.

Where the device takes nothing else, a partial batch is filled with copies of one of its own items: zeros
would be a mask without a single token, which mean pooling divides by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchneuron.backends.backend import Executable
from batchneuron.errors import ProgramError
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages.gather import Batch, gather
from batchneuron.stages.items import Items, OutputBatch, Outputs, Ragged, Tensor


@dataclass(frozen=True, slots=True)
class Executed:
    """What came back from the device for N items, and what it cost."""

    outputs: Outputs
    slots: int
    """Token places that were computed, padding and fillers included."""
    device_s: float = 0.0
    """Spent in the executables; what the stage takes beyond it, the device waited."""

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Items without NaN or infinity in any output: [N]. Looked for when it is asked for."""
        finite = np.ones(self.outputs.items, dtype=np.bool_)
        for batch in self.outputs.batches:
            finite[batch.picks] = _find_finite(batch.tensors, len(batch.picks))
        return finite


def execute(
    items: Items,
    ladder: Ladder,
    executables: Sequence[Executable],
    vocabulary: int | None,
    on_batch: Callable[[int], None],
    *,
    spills: bool = False,
) -> Executed:
    """Outputs of all items.

    Args:
        items: N items, none longer than the longest shape.
        ladder: the shapes, shortest first.
        executables: one per shape, in the ladder's order.
        vocabulary: token ids must be below it; None where the program has none. A device reads out
            of bounds where a CPU would raise, so the host checks.
        on_batch: told the number of tokens of each finished batch.
        spills: whether an item has the same bits in any shape that holds it.

    Raises:
        ProgramError: a token is outside the vocabulary, or an output is of a wrong shape.
    """
    require_tokens(items, vocabulary)
    batches = gather(items.lengths, ladder, spills=spills and must_fill(executables))
    return run_batches(items, batches, executables, Follow(on_done=on_batch))


def must_fill(executables: Sequence[Executable]) -> bool:
    """Whether one of them takes no partial batch; where all do, no item gains by a longer shape."""
    return any(executable.least_rows > 1 for executable in executables)


@dataclass(frozen=True, slots=True)
class Follow:
    """What is told of batches as they run."""

    on_begin: Callable[[int, Batch], None] = lambda _, __: None
    """A batch, and its number, before the device gets it."""
    on_done: Callable[[int], None] = lambda _: None
    """The number of tokens of a finished batch."""


def run_batches(
    items: Items, batches: Sequence[Batch], executables: Sequence[Executable], follow: Follow
) -> Executed:
    """Outputs of the items in these batches, which go through the device in this order.

    Raises:
        ProgramError: an output is of a wrong shape.
    """
    done: list[OutputBatch] = []
    slots, device_s = 0, 0.0
    for number, batch, inputs in _iter_inputs(items, batches, executables):
        executable = executables[batch.index]
        follow.on_begin(number, batch)
        started = time.perf_counter()
        outputs = executable(*inputs)
        device_s += time.perf_counter() - started
        rows = len(inputs[0])
        _check_outputs(outputs, rows, executable.shape)
        done.append(OutputBatch(batch.picks, tuple(batch.cut(output) for output in outputs)))
        slots += rows * executable.shape.sequence_length
        follow.on_done(int(items.lengths[batch.picks].sum()))
    return Executed(Outputs(len(items), tuple(done)), slots, device_s)


def _iter_inputs(
    items: Items, batches: Sequence[Batch], executables: Sequence[Executable]
) -> Iterator[tuple[int, Batch, list[Tensor]]]:
    """Each batch that is not empty, with its number and its inputs, made while the device is busy."""
    todo = [(number, batch) for number, batch in enumerate(batches) if len(batch.picks)]
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pad") as thread:
        ahead = (thread.submit(_make_inputs, items, batch, executables[batch.index]) for _, batch in todo)
        coming = next(ahead, None)
        for number, batch in todo:
            assert coming is not None
            inputs = coming.result()
            coming = next(ahead, None)
            yield number, batch, inputs


def _make_inputs(items: Items, batch: Batch, executable: Executable) -> list[Tensor]:
    shape = executable.shape
    filled = batch.fill(max(batch.rows, executable.least_rows))
    return [items.make_input(name, filled, shape.sequence_length) for name in executable.input_names]


def _check_outputs(outputs: Sequence[Tensor], rows: int, shape: Shape) -> None:
    for output in outputs:
        if not output.ndim or output.shape[0] != rows:
            raise ProgramError(
                f"an output of shape {output.shape}", f"shape {shape}", "this is a bug of ours"
            )


def require_tokens(items: Items, vocabulary: int | None) -> None:
    """Hold the token ids of items against the number of tokens that a model knows.

    Raises:
        ProgramError: one is outside.
    """
    if isinstance(ids := items.tensors.get("input_ids"), Ragged):
        require_vocabulary(ids.values, vocabulary)


def require_vocabulary(ids: Tensor, vocabulary: int | None) -> None:
    """Hold token ids against the number of tokens that a model knows; None: not known.

    Here and not at each backend, because a device reads out of bounds where a CPU would raise.

    Raises:
        ProgramError: one is outside.
    """
    if vocabulary is None or not ids.size:
        return
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0 or highest >= vocabulary:
        raise ProgramError(
            f"token {lowest if lowest < 0 else highest} is outside the model's vocabulary of {vocabulary}",
            "model.id",
            "the tokenizer and the weights do not belong together",
        )


def _find_finite(tensors: Sequence[Tensor], count: int) -> NDArray[np.bool_]:
    finite = np.ones(count, dtype=np.bool_)
    for tensor in tensors:
        if np.issubdtype(tensor.dtype, np.floating):
            finite &= np.isfinite(tensor).reshape(count, -1).all(axis=1)
    return finite
