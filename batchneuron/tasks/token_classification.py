"""token-classification: the entities of a text, with their places.

Semantics of `transformers.pipeline("token-classification")`. Where a text was split, of entities that
overlap the longer one stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchneuron.errors import ModelError
from batchneuron.model import Model
from batchneuron.stages.items import Items, Outputs
from batchneuron.stages.tokenize import Tokenizer
from batchneuron.tasks.entities import (
    WORD_STRATEGIES,
    Classes,
    Entities,
    Spans,
    find_entities,
    gather_scores,
    merge_windows,
)
from batchneuron.tasks.entity_encoder import EntityEncoder, Options
from batchneuron.tasks.spelling import Layout, name_tokens, spell
from batchneuron.tasks.task import Decoded, TaskKind
from batchneuron.tasks.windows import Places, to_bounds


@dataclass(frozen=True, slots=True)
class TokenClassification:
    """Entities of texts."""

    model: Model
    options: Options
    opened: EntityEncoder | None = None
    """Has the tokenizer of the model open already; None: it is opened here."""

    @property
    def schema(self) -> pa.Schema:
        """`entities`: a list, in the order of the text."""
        is_grouped = self.options.aggregation_strategy != "none"
        fields = [
            pa.field("entity_group" if is_grouped else "entity", pa.string()),
            *([] if is_grouped else [pa.field("index", pa.int32())]),
            pa.field("score", pa.float32()),
            pa.field("word", pa.string()),
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
        ]
        return pa.schema([("entities", pa.list_(pa.struct(fields)))])

    def open_encoder(self) -> EntityEncoder:
        """The model's tokenizer.

        Raises:
            ModelError: the options need places in the text, and the tokenizer knows none.
        """
        tokenizer = self.opened.tokenizer if self.opened else Tokenizer(self.model)
        needs_places = (
            self.options.aggregation_strategy in WORD_STRATEGIES or self.options.is_split_into_words
        )
        if needs_places and not tokenizer.transformers_tokenizer.is_fast:
            raise ModelError(
                "its tokenizer is not a fast one, and knows no words",
                str(self.model.folder),
                "set aggregation_strategy to none or simple, and give whole texts",
            )
        return EntityEncoder(tokenizer, self.options)

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Scores of all classes for each token: float32 [B, L, C]."""
        return (model(**inputs).logits.float().softmax(-1),)

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """`entities` of each row, empty where there are none."""
        layout: Layout = items.host["layout"]
        bounds = to_bounds(items.lengths)
        scores = gather_scores(items, outputs, bounds)[layout.places]
        if scores.shape[1] != len(self.model.labels):
            raise ModelError(
                f"the model scores {scores.shape[1]} classes and names {len(self.model.labels)}",
                str(self.model.folder / "config.json"),
            )
        entities = find_entities(
            layout.tokens, scores, self.options.aggregation_strategy, Classes(self.model.labels)
        )
        owners = items.rows[layout.tokens.owners[entities.spans.begins]]
        shown = self._choose(entities.spans, owners, np.bincount(items.rows, minlength=rows) > 1, layout)
        places = np.bincount(owners[shown], minlength=rows)
        structs = self._describe(entities, shown, layout, _count_in_row(items, layout))
        offsets = pa.array(to_bounds(places).astype(np.int32))
        return Decoded(pa.table([pa.ListArray.from_arrays(offsets, structs)], schema=self.schema))

    @property
    def _names(self) -> tuple[str, ...]:
        """What an entity of each class is called."""
        is_grouped = self.options.aggregation_strategy != "none"
        return Classes(self.model.labels).groups if is_grouped else self.model.labels

    def _choose(
        self, spans: Spans, owners: Places, is_split: NDArray[np.bool_], layout: Layout
    ) -> NDArray[np.intp]:
        """The spans that are entities, in the order of rows and texts.

        Args:
            spans: S spans.
            owners: the row of each: [S].
            is_split: the rows of several windows: [A].
            layout: where their tokens stand.
        """
        is_ignored = np.isin(self._names, self.options.ignore_labels)
        found = np.flatnonzero(~is_ignored[spans.classes])
        if self.options.aggregation_strategy == "none" or not is_split.any():
            return found
        whole, split = found[~is_split[owners[found]]], found[is_split[owners[found]]]
        starts, ends = layout.tokens.starts[spans.begins[split]], layout.tokens.ends[spans.ends[split] - 1]
        kept = split[merge_windows(owners[split], starts, ends, spans.scores[split])]
        chosen = np.concatenate([whole, kept])
        return chosen[np.argsort(owners[chosen], kind="stable")]

    def _describe(
        self, entities: Entities, shown: NDArray[np.intp], layout: Layout, index: Places
    ) -> pa.StructArray:
        """One struct for each of the spans shown; `index` counts the tokens of a row from its first: [T]."""
        spans, strategy = entities.spans, self.options.aggregation_strategy
        begins, ends = spans.begins[shown], spans.ends[shown]
        heads = entities.heads if strategy in WORD_STRATEGIES else None
        words = name_tokens(layout, begins) if strategy == "none" else spell(layout, begins, ends, heads)
        nowhere = None if layout.has_offsets else np.ones(len(shown), dtype=np.bool_)
        columns = {
            "entity": pa.array(self._names, pa.string()).take(pa.array(spans.classes[shown])),
            "index": pa.array(index[begins].astype(np.int32)),
            "score": pa.array(spans.scores[shown]),
            "word": pa.array(words, pa.string()),
            "start": pa.array(layout.tokens.starts[begins], mask=nowhere),
            "end": pa.array(layout.tokens.ends[ends - 1], mask=nowhere),
        }
        columns["entity_group"] = columns["entity"]
        fields = list(self.schema.field(0).type.value_type)
        return pa.StructArray.from_arrays([columns[field.name] for field in fields], fields=fields)


def _count_in_row(items: Items, layout: Layout) -> Places:
    """The number of each token in its row, the tokenizer's own before it counted: [T].

    Windows of one row go on counting; they do not overlap where tokens are not grouped.
    """
    owners = layout.tokens.owners
    before = layout.tokens.bounds[:-1]
    first_item = np.searchsorted(items.rows, items.rows)
    return layout.places - to_bounds(items.lengths)[owners] + (before - before[first_item])[owners]


KIND = TaskKind(
    name="token-classification",
    inputs=("text",),
    optional_inputs=(),
    default_model="dbmdz/bert-large-cased-finetuned-conll03-english",
    auto_model="AutoModelForTokenClassification",
    options=Options,
    open=TokenClassification,
    list_inputs=("text",),
)
