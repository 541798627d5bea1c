"""Logits of classes to labels: what text- and image-classification have in common.

Semantics of transformers' pipelines; equal scores come in the order of the model's classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.errors import ModelError
from batchneuron.model import Model

Function = Literal["softmax", "sigmoid", "none"]
LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])


@dataclass(frozen=True, slots=True)
class RankedLabels:
    """The k best labels of A rows, likeliest first."""

    labels: pa.Array
    """string [A * k]"""
    scores: pa.Array
    """float32 [A * k]"""
    count: int
    """k"""

    def as_lists(self) -> pa.ListArray:
        """A lists of label and score."""
        structs = pa.StructArray.from_arrays([self.labels, self.scores], fields=list(LABEL))
        offsets = np.arange(0, len(structs) + 1, self.count, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), structs)


def choose_function(model: Model, wished: Function | Literal["auto"]) -> Function:
    """What turns logits into scores; auto follows the order of transformers' own pipeline."""
    if wished != "auto":
        return wished
    problem = model.config.get("problem_type")
    if problem == "regression":
        return "none"
    if problem == "multi_label_classification" or len(model.labels) == 1:
        return "sigmoid"
    return "softmax"


def apply_function(logits: Any, function: Function) -> Any:
    """Scores of all classes: float32 [B, C], on the device."""
    match function:
        case "softmax":
            return logits.float().softmax(-1)
        case "sigmoid":
            return logits.float().sigmoid()
        case "none":
            return logits.float()


def rank_labels(scores: NDArray[np.float32], model: Model, top_k: int | Literal["all"]) -> RankedLabels:
    """The best labels of each row of float32 [A, C].

    Raises:
        ModelError: the model scores another number of classes than it names.
    """
    classes = scores.shape[1]
    if classes != len(model.labels):
        raise ModelError(
            f"the model scores {classes} classes and names {len(model.labels)}",
            str(model.folder / "config.json"),
        )
    count = classes if top_k == "all" else min(top_k, classes)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    names = pa.array(model.labels, pa.string()).take(pa.array(best.reshape(-1)))
    return RankedLabels(names, pa.array(np.take_along_axis(scores, best, axis=1).reshape(-1)), count)
