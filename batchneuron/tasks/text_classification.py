"""text-classification: one label, or the k likeliest, for a text or a pair of texts.

Semantics of `transformers.pipeline("text-classification")`: the function applied to the logits follows
the model's configuration unless `function_to_apply` names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from batchneuron.errors import ModelError
from batchneuron.items import Items, Outputs, TaskItems, fold_mean
from batchneuron.model import Model
from batchneuron.spec.sections import PositiveInt
from batchneuron.tasks.task import Decoded, TaskKind, TaskOptions
from batchneuron.tokenize import Limit, Tokenizer

Function = Literal["softmax", "sigmoid", "none"]


class Options(TaskOptions):
    """Options of text-classification."""

    top_k: PositiveInt | Literal["all"] = Field(
        1, description="1 gives the columns label and score; more, or 'all', a sorted list of them."
    )
    function_to_apply: Function | Literal["auto"] = Field(
        "auto", description="What turns logits into scores; auto: as the model's configuration says."
    )


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Texts, or pairs of texts, to items."""

    tokenizer: Tokenizer

    @property
    def model_limit_tokens(self) -> int:
        """The most tokens of an item that the model can take."""
        return self.tokenizer.model_limit_tokens

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """One item per row, more for rows that are split."""
        pairs = inputs["text_pair"].to_pylist() if "text_pair" in inputs.column_names else None
        return self.tokenizer.encode(inputs["text"].to_pylist(), pairs, limit)


@dataclass(frozen=True, slots=True)
class TextClassification:
    """Labels of texts."""

    model: Model
    options: Options

    @property
    def schema(self) -> pa.Schema:
        """`label` and `score`, or `labels`: a list of both, likeliest first."""
        fields = [pa.field("label", pa.string()), pa.field("score", pa.float32())]
        return pa.schema(fields if self.options.top_k == 1 else [("labels", pa.list_(pa.struct(fields)))])

    def open_encoder(self) -> TextEncoder:
        """The model's tokenizer."""
        return TextEncoder(Tokenizer(self.model))

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Scores of all classes: float32 [B, C]."""
        logits = model(**inputs).logits.float()
        match choose_function(self.model, self.options.function_to_apply):
            case "softmax":
                return (logits.softmax(-1),)
            case "sigmoid":
                return (logits.sigmoid(),)
            case "none":
                return (logits,)

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """The k best classes of each row; equal scores in the order of the classes.

        A row that was split gets the mean of its windows' scores, weighted by their tokens.
        """
        scores = fold_mean(outputs.stack(0), items, rows)
        classes = scores.shape[1]
        if classes != len(self.model.labels):
            raise ModelError(
                f"the model scores {classes} classes and names {len(self.model.labels)}",
                str(self.model.folder / "config.json"),
            )
        count = classes if self.options.top_k == "all" else min(self.options.top_k, classes)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        labels = pa.array(self.model.labels, pa.string()).take(pa.array(best.reshape(-1)))
        values = pa.array(np.take_along_axis(scores, best, axis=1).reshape(-1))
        if self.options.top_k == 1:
            return Decoded(pa.table([labels, values], schema=self.schema))
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * count)
        structs = pa.StructArray.from_arrays(
            [labels, values], fields=list(self.schema.field(0).type.value_type)
        )
        return Decoded(pa.table([pa.ListArray.from_arrays(offsets, structs)], schema=self.schema))


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


KIND = TaskKind(
    name="text-classification",
    inputs=("text",),
    optional_inputs=("text_pair",),
    default_model="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    auto_model="AutoModelForSequenceClassification",
    options=Options,
    open=TextClassification,
)
