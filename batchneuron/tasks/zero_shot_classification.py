"""zero-shot-classification: which of the labels a text is about, asked of a model of inference.

Semantics of `transformers.pipeline("zero-shot-classification")`: the text is the premise, each label put
into a template is a hypothesis, and what counts is how much the one entails the other. Each pair is an
item, so batches are full whatever the number of labels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator

from batchneuron.errors import ColumnMissing, ModelError, Problem, SpecError
from batchneuron.model import Model
from batchneuron.stages.items import Items, Outputs, Ragged, TaskItems, fold_mean
from batchneuron.stages.tokenize import CHUNK_ROWS, Limit, Tokenizer
from batchneuron.tasks.task import Decoded, TaskKind, TaskOptions, reject_rows
from batchneuron.tasks.windows import to_bounds

_WHOLE = Limit(sys.maxsize, "reject")
_Flags = NDArray[np.bool_]


class Options(TaskOptions):
    """Options of zero-shot-classification."""

    candidate_labels: Annotated[list[str], Field(min_length=1)] | str | None = Field(
        None, description="The labels, as a list or with commas between; not needed where a column has them."
    )
    hypothesis_template: str = Field(
        "This example is {}.", description="The sentence that is held against the text; {} is the label."
    )
    multi_label: bool = Field(
        False, description="true: each label's score by itself; false: the labels' scores add up to 1."
    )

    @field_validator("candidate_labels")
    @classmethod
    def _require_labels(cls, labels: list[str] | str | None) -> list[str] | str | None:
        if labels is not None and not parse_labels(labels):
            raise ValueError("has no label in it")
        return labels

    @field_validator("hypothesis_template")
    @classmethod
    def _require_place(cls, template: str) -> str:
        try:
            has_place = template.format("a") != template.format("b")
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise ValueError("needs {} where the label goes, and no other braces") from error
        if not has_place:
            raise ValueError("needs {} where the label goes")
        return template


@dataclass(frozen=True, slots=True)
class Pairs:
    """Premises and hypotheses: P pairs, in row order, and label by label within a row."""

    rows: NDArray[np.int64]
    """[P], ascending"""
    labels: list[str]
    premises: list[str]
    hypotheses: list[str]


@dataclass(frozen=True, slots=True)
class PairEncoder:
    """Texts and labels to items."""

    tokenizer: Tokenizer
    options: Options

    @property
    def model_limit_tokens(self) -> int:
        """The most tokens of an item that the model can take."""
        return self.tokenizer.model_limit_tokens

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """One item per row and label, more for pairs that are split; only the text is cut or split.

        Raises:
            SpecError: neither a column nor an option has labels.
        """
        labels, texts = self._read_labels(inputs), inputs["text"].to_pylist()
        return _join([self._encode_rows(texts[rows], labels[rows], limit) for rows in _chunk(labels)])

    def _encode_rows(self, texts: Sequence[str], labels: Sequence[list[str]], limit: Limit) -> TaskItems:
        """Items of some rows, whose pairs are held at their full length meanwhile."""
        pairs = self._make_pairs(texts, labels)
        whole = self.tokenizer.encode(pairs.premises, pairs.hypotheses, _WHOLE)
        lengths = np.zeros(len(pairs.rows), dtype=np.int32)
        lengths[whole.items.rows] = whole.items.lengths
        is_long = lengths > limit.max_tokens
        unlabelled = np.array([not row for row in labels], dtype=np.bool_)
        empty, too_long = np.zeros_like(unlabelled), np.zeros_like(unlabelled)
        empty[pairs.rows[lengths == 0]] = True
        too_long[pairs.rows[is_long & self._has_no_room(pairs, is_long, limit)]] = True
        rejections = (
            *reject_rows(unlabelled, "null_input", "'candidate_labels' has no label in it"),
            *reject_rows(empty, "empty_input", "a text and its label have no token, and the model adds none"),
            *reject_rows(too_long & ~empty, "too_long", _explain_long(limit)),
        )
        accepted = ~(unlabelled | empty | too_long)
        truncated = np.zeros_like(accepted)
        if limit.overflow == "truncate":
            truncated[pairs.rows[is_long]] = True
        kept = np.flatnonzero(accepted[pairs.rows])
        return TaskItems(self._fit(whole.items, pairs, kept, limit), truncated & accepted, rejections)

    def _read_labels(self, inputs: pa.Table) -> list[list[str]]:
        """Labels of each row; none for a row whose labels cannot be used."""
        if "candidate_labels" in inputs.column_names:
            column = inputs["candidate_labels"]
            _require_texts(column.type)
            return [parse_labels(value) for value in column.to_pylist()]
        if self.options.candidate_labels is None:
            hint = "set it, or name a column with each row's own: input.columns: {candidate_labels: …}"
            raise SpecError((Problem("spec", "options.candidate_labels", "there are no labels", hint),))
        return [parse_labels(self.options.candidate_labels)] * inputs.num_rows

    def _make_pairs(self, texts: Sequence[str], labels: Sequence[list[str]]) -> Pairs:
        flat = [label for row in labels for label in row]
        counts = np.fromiter((len(row) for row in labels), np.int64, len(labels))
        rows = np.repeat(np.arange(len(labels)), counts)
        sentences = {label: self.options.hypothesis_template.format(label) for label in set(flat)}
        premises = [texts[row] for row in rows.tolist()]
        return Pairs(rows, flat, premises, [sentences[label] for label in flat])

    def _has_no_room(self, pairs: Pairs, is_long: _Flags, limit: Limit) -> _Flags:
        """Pairs whose text must not be cut, or whose label would leave nothing of it: [P]."""
        if limit.overflow == "reject":
            return np.ones_like(is_long)
        encode = self.tokenizer.transformers_tokenizer
        filled = {
            sentence: len(encode("", sentence, verbose=False)["input_ids"]) >= limit.max_tokens
            for sentence in {pairs.hypotheses[pair] for pair in np.flatnonzero(is_long)}
        }
        return np.array([filled.get(sentence, False) for sentence in pairs.hypotheses], dtype=np.bool_)

    def _fit(self, whole: Items, pairs: Pairs, kept: NDArray[np.intp], limit: Limit) -> Items:
        """Items of the kept pairs; those beyond the limit cut to it, or replaced by their windows."""
        labels = [pairs.labels[pair] for pair in kept.tolist()]
        if len(kept) == len(pairs.rows) and (whole.lengths <= limit.max_tokens).all():
            return replace(whole, rows=pairs.rows, host={"pair": whole.rows, "labels": labels})
        ids, types = whole.tensors["input_ids"], whole.tensors["token_type_ids"]
        assert isinstance(ids, Ragged)
        assert isinstance(types, Ragged)
        bounds = ids.offsets.tolist()
        places = np.searchsorted(whole.rows, kept).tolist()
        item_ids: list[list[int]] = []
        item_types: list[list[int]] = []
        owners: list[int] = []
        for number, (pair, place) in enumerate(zip(kept.tolist(), places, strict=True)):
            start, end = bounds[place], bounds[place + 1]
            windows = [(ids.values[start:end].tolist(), types.values[start:end].tolist())]
            if end - start > limit.max_tokens:
                windows = self._windows(pairs.premises[pair], pairs.hypotheses[pair], limit)
            for window_ids, window_types in windows:
                item_ids.append(window_ids)
                item_types.append(window_types)
                owners.append(number)
        pair_of_item = np.array(owners, dtype=np.int64)
        items = self.tokenizer.pack(item_ids, item_types, pairs.rows[kept][pair_of_item].tolist())
        return replace(items, host={"pair": pair_of_item, "labels": labels})

    def _windows(self, premise: str, hypothesis: str, limit: Limit) -> list[tuple[list[int], list[int]]]:
        """Ids and types of the pair with the premise's beginning, or with each of its windows."""
        encoded = self.tokenizer.transformers_tokenizer(
            premise,
            hypothesis,
            truncation="only_first",
            max_length=limit.max_tokens,
            return_overflowing_tokens=limit.overflow == "split",
            return_token_type_ids=True,
            verbose=False,
        )
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        return [(ids, types)] if isinstance(ids[0], int) else list(zip(ids, types, strict=True))


@dataclass(frozen=True, slots=True)
class ZeroShotClassification:
    """Labels of texts that the model was not trained on."""

    model: Model
    options: Options
    opened: PairEncoder | None = None
    """Has the tokenizer of the model open already; None: it is opened here."""

    def __post_init__(self) -> None:
        _ = self.entailment

    @property
    def schema(self) -> pa.Schema:
        """`labels` and `scores`, likeliest first."""
        return pa.schema([("labels", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))])

    @property
    def entailment(self) -> int:
        """The class that says the hypothesis follows from the premise.

        Raises:
            ModelError: no class has such a name.
        """
        by_place = {name: number for number, name in enumerate(self.model.labels)}
        names: Mapping[str, Any] = self.model.config.get("label2id") or by_place
        found = [int(number) for name, number in names.items() if name.lower().startswith("entail")]
        if not found:
            raise ModelError(
                f"none of its classes is called entailment, but {', '.join(names)}",
                str(self.model.folder / "config.json"),
                "choose a model trained for inference (NLI); if this is one, name its classes in label2id",
            )
        return found[0]

    def open_encoder(self) -> PairEncoder:
        """The model's tokenizer, and the labels."""
        return PairEncoder(self.opened.tokenizer if self.opened else Tokenizer(self.model), self.options)

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Logits of contradiction and entailment: float32 [B, 2]."""
        logits = model(**inputs).logits.float()
        # The opposite is the first class, or the last where the first is entailment: transformers' rule.
        opposite = logits.shape[-1] - 1 if self.entailment == 0 else 0
        return (logits[:, [opposite, self.entailment]],)

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """Labels of each row, likeliest first; equal scores in the order of the labels.

        A pair that was split gets the mean of its windows' logits, weighted by their tokens.
        """
        pair: NDArray[np.int64] = items.host["pair"]
        labels: list[str] = items.host["labels"]
        logits = fold_mean(outputs.stack(0), replace(items, rows=pair), len(labels))
        owners = items.rows[np.searchsorted(pair, np.arange(len(labels)))]
        counts = np.bincount(owners, minlength=rows)
        scores = score_pairs(logits, counts, multi_label=self.options.multi_label)
        order = np.lexsort((-scores, owners))  # stable
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        ranked = pa.array(labels, pa.string()).take(pa.array(order))
        columns = [ranked, pa.array(scores[order], pa.float32())]
        return Decoded(
            pa.table([pa.ListArray.from_arrays(offsets, values) for values in columns], schema=self.schema)
        )


def parse_labels(labels: list[str] | list[str | None] | str) -> list[str]:
    """The labels of a list, or of a text with commas between; none at all where one of a list is null."""
    if isinstance(labels, str):
        return [label.strip() for label in labels.split(",") if label.strip()]
    known = [label for label in labels if label is not None]
    return known if len(known) == len(labels) else []


def score_pairs(
    logits: NDArray[np.float32], counts: NDArray[np.intp], *, multi_label: bool
) -> NDArray[np.float32]:
    """Scores of P pairs, [P, 2] logits to float32 [P], for rows of so many labels each: [A].

    Entailment's share among a row's labels; against contradiction's where labels are independent, or alone.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # rows with NaN or infinity are rejected, and say why
        pairwise = _softmax(logits.reshape(-1), np.full(len(logits), 2))[1::2]
        if multi_label:
            return pairwise
        return np.where(np.repeat(counts == 1, counts), pairwise, _softmax(logits[:, 1], counts))


def _softmax(values: NDArray[np.float32], counts: NDArray[np.intp]) -> NDArray[np.float32]:
    """Softmax within neighbouring groups of so many values each, none of them empty: [sum of counts]."""
    starts = np.cumsum(counts) - counts
    powers = np.exp(values - np.repeat(np.maximum.reduceat(values, starts), counts))
    shares: NDArray[np.float32] = powers / np.repeat(np.add.reduceat(powers, starts), counts)
    return shares


def _chunk(labels: Sequence[list[str]]) -> Iterator[slice]:
    """Rows with as many pairs as a tokenizer gets at once, or one row with more; or no rows."""
    start, pairs = 0, 0
    for row, names in enumerate(labels):
        if pairs and pairs + len(names) > CHUNK_ROWS:
            yield slice(start, row)
            start, pairs = row, 0
        pairs += len(names)
    yield slice(start, len(labels))


def _join(parts: Sequence[TaskItems]) -> TaskItems:
    """Items of rows that follow each other."""
    firsts = np.cumsum([0, *(len(part.truncated) for part in parts)]).tolist()
    pairs = np.cumsum([0, *(len(part.items.host["labels"]) for part in parts)]).tolist()
    made = [part.items for part in parts]
    pair = np.concatenate([items.host["pair"] + first for items, first in zip(made, pairs, strict=False)])
    items = Items(
        rows=np.concatenate([items.rows + first for items, first in zip(made, firsts, strict=False)]),
        lengths=np.concatenate([items.lengths for items in made]),
        tensors={name: _join_ragged([items.tensors[name] for items in made]) for name in made[0].tensors},
        fills=made[0].fills,
        host={"pair": pair, "labels": [label for items in made for label in items.host["labels"]]},
    )
    rejections = tuple(
        replace(rejection, row=rejection.row + first)
        for part, first in zip(parts, firsts, strict=False)
        for rejection in part.rejections
    )
    return TaskItems(items, np.concatenate([part.truncated for part in parts]), rejections)


def _join_ragged(parts: Sequence[Any]) -> Ragged:
    """Sequences of all parts, in order."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Ragged(np.concatenate([part.values for part in parts]), to_bounds(lengths))


def _explain_long(limit: Limit) -> str:
    what = "a text and its label are longer" if limit.overflow == "reject" else "a label leaves no room"
    return f"{what}: the longest shape holds {limit.max_tokens} tokens"


def _require_texts(kind: pa.DataType) -> None:
    """Refuse a column of labels that is neither text nor lists of it."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ColumnMissing(
            f"labels of type {kind}",
            "input.columns.candidate_labels",
            "name a column of lists of text, or of text with commas between the labels",
        )


KIND = TaskKind(
    name="zero-shot-classification",
    inputs=("text",),
    optional_inputs=("candidate_labels",),
    or_options=("candidate_labels",),
    default_model="MoritzLaurer/deberta-v3-base-zeroshot-v2.0",
    auto_model="AutoModelForSequenceClassification",
    options=Options,
    open=ZeroShotClassification,
    raw_inputs=("candidate_labels",),
)
