"""text-classification: one label, or the k likeliest, for a text or a pair of texts.

Semantics of `transformers.pipeline("text-classification")`: the function applied to the logits follows
the model's configuration unless `function_to_apply` names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from batchneuron.model import Model
from batchneuron.spec.sections import PositiveInt
from batchneuron.stages.items import Items, Outputs, TaskItems, fold_mean
from batchneuron.stages.tokenize import Limit, Tokenizer
from batchneuron.tasks.labels import LABEL, Function, apply_function, choose_function, rank_labels
from batchneuron.tasks.task import Decoded, TaskKind, TaskOptions


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
        # As in transformers' call of a tokenizer, an empty second text is none.
        seconds = None if pairs is None else [pair or None for pair in pairs]
        return self.tokenizer.encode(inputs["text"].to_pylist(), seconds, limit)


@dataclass(frozen=True, slots=True)
class TextClassification:
    """Labels of texts."""

    model: Model
    options: Options
    opened: TextEncoder | None = None
    """Has the tokenizer of the model open already; None: it is opened here."""

    @property
    def schema(self) -> pa.Schema:
        """`label` and `score`, or `labels`: a list of both, likeliest first."""
        return pa.schema(list(LABEL) if self.options.top_k == 1 else [("labels", pa.list_(LABEL))])

    def open_encoder(self) -> TextEncoder:
        """The model's tokenizer."""
        return TextEncoder(self.opened.tokenizer if self.opened else Tokenizer(self.model))

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Scores of all classes: float32 [B, C]."""
        function = choose_function(self.model, self.options.function_to_apply)
        return (apply_function(model(**inputs).logits, function),)

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """The k best classes of each row; equal scores in the order of the classes.

        A row that was split gets the mean of its windows' scores, weighted by their tokens.
        """
        best = rank_labels(fold_mean(outputs.stack(0), items, rows), self.model, self.options.top_k)
        columns = [best.labels, best.scores] if self.options.top_k == 1 else [best.as_lists()]
        return Decoded(pa.table(columns, schema=self.schema))


KIND = TaskKind(
    name="text-classification",
    inputs=("text",),
    optional_inputs=("text_pair",),
    default_model="distilbert/distilbert-base-uncased-finetuned-sst-2-english",
    auto_model="AutoModelForSequenceClassification",
    options=Options,
    open=TextClassification,
)
