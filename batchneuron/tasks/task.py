"""The Task seam: what a kind of prediction must be able to say and do.

A task file names its input columns and its options, makes items of rows, computes on the device what
a row needs, and turns that into Arrow columns. Nothing outside `tasks/` knows any task by name.
Importing a task imports no torch: a head only calls methods of the tensors it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from batchneuron.model import Model
from batchneuron.planning.plan import Calibration
from batchneuron.rejection import Rejection
from batchneuron.stages.items import Items, Outputs, TaskItems
from batchneuron.stages.tokenize import Limit


class TaskOptions(BaseModel):
    """Options of one task; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Predictions for the A rows that had items, and those among them that are none."""

    columns: pa.Table
    """A rows, the task's schema."""
    rejections: tuple[Rejection, ...] = ()
    """By their place among the A."""


class Encoder(Protocol):
    """Rows to items, with the task's tokenizer or image processor opened."""

    @property
    def model_limit_tokens(self) -> int:
        """The most tokens of an item that the model can take."""

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """Items of A rows; `inputs` has one column per task input, without nulls."""


class Task(Protocol):
    """A kind of prediction, bound to one model and its options."""

    @property
    def schema(self) -> pa.Schema:
        """The prediction columns, in order."""

    def open_encoder(self) -> Encoder:
        """The encoder; reads the tokenizer's files, unless the task was given an encoder that has them."""

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Run the torch model on padded inputs and give what a row needs: tensors [B, …].

        Part of the compiled program: static shapes, no Python branch on a tensor's values.
        """

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """Arrow columns of A rows from the program's outputs; vectorised over all of them."""


class CalibratedTask(Task, Protocol):
    """A task that has to see a sample before it can write its output."""

    def measure(self, items: Items, rows: int, outputs: Outputs) -> Calibration:
        """What some rows say."""

    def calibrate(self, measured: Sequence[Calibration]) -> Calibration:
        """What all samples say together."""

    def with_calibration(self, calibration: Calibration) -> Task:
        """The task that decodes by it."""


@dataclass(frozen=True, slots=True)
class TaskKind:
    """A task before it meets a model: its words, and how to bind it."""

    name: str
    inputs: tuple[str, ...]
    """Columns that must be given, in order; the first is the one a bare `columns` entry means."""
    optional_inputs: tuple[str, ...]
    default_model: str
    auto_model: str
    """The transformers class that loads the weights."""
    options: type[TaskOptions]
    open: Callable[[Model, Any, Any], Task]
    """Given the model, the options, and an encoder of that model where one is open already, or None."""
    or_options: tuple[str, ...] = ()
    """Optional inputs of which each must be given: as a column, or as the option of the same name."""
    raw_inputs: tuple[str, ...] = ()
    """Inputs that are taken as the column's own type, not as text: images, lists of labels."""
    list_inputs: tuple[str, ...] = ()
    """Inputs that may also be a list column, taken as it is: words that are split already."""
    program_inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    optional_program_inputs: tuple[str, ...] = ("token_type_ids",)
    """Given to architectures whose `forward` takes them."""
    input_sizes: Callable[[Model], Mapping[str, tuple[int, ...]]] = lambda _: {}
    """Program inputs of a model that are float32 [B, *size]; all others are int64 [B, L]."""
    prepare: Callable[[Any], None] = lambda _: None
    """Called once with a loaded torch model, before the head runs it: compilers refuse hooks set later."""
    needs_calibration: Callable[[Any], bool] = lambda _: False
    """Whether these options make it a `CalibratedTask`."""
    libraries: tuple[str, ...] = ()
    """Distributions, beside the backend's, whose version can change what the program is fed."""
    max_shard_rows: int | None = None
    """For rows that are large once they are encoded: what a shard is cut to unless the user says."""


def reject_rows(mask: NDArray[np.bool_], code: Any, message: str) -> tuple[Rejection, ...]:
    """One rejection per true place of a mask over the A rows."""
    return tuple(Rejection(int(row), code, message) for row in np.flatnonzero(mask))
