"""The encoder of token-classification: texts, or lists of words, to items that remember places.

A long text can be split: its windows share `stride` tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator

from batchneuron.errors import ModelError, Problem, SpecError
from batchneuron.rejection import Rejection
from batchneuron.stages.items import TaskItems
from batchneuron.stages.tokenize import Limit, Tokenizer
from batchneuron.tasks.entities import WORD_STRATEGIES, Strategy, number_words
from batchneuron.tasks.spelling import lay_out
from batchneuron.tasks.task import TaskOptions
from batchneuron.tasks.windows import (
    Cut,
    Tokens,
    chunk_rows,
    cut_ends,
    cut_windows,
    join_tokens,
    make_items,
    read_slow_tokens,
    read_tokens,
    reject_long,
    require_room,
)
from batchneuron.tasks.word_lists import count_from_text, split_words


class Options(TaskOptions):
    """Options of token-classification."""

    aggregation_strategy: Strategy = Field(
        "none",
        description="none gives tokens; simple joins neighbours of one tag; first, average and max make the "
        "tokens of a word agree before.",
    )
    ignore_labels: list[str] = Field(
        ["O"], description="Labels that are left out; names of entities where they are grouped."
    )
    stride: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Tokens that neighbouring windows share, with shapes.overflow: split; default: a quarter "
        "of a window, and none where tokens are not grouped.",
    )
    is_split_into_words: bool = Field(
        False, description="The text is a list of words, or one text with a delimiter between them."
    )
    delimiter: str = Field(" ", min_length=1, description="What stands between words in the joined text.")

    @field_validator("stride")
    @classmethod
    def _require_agreement(cls, stride: int | None, info: ValidationInfo) -> int | None:
        if stride and info.data.get("aggregation_strategy") == "none":
            what = "tokens that are in two windows need a way to agree"
            raise ValueError(f"{what}: choose an aggregation_strategy, or stride: 0")
        return stride


@dataclass(frozen=True, slots=True)
class EntityEncoder:
    """Texts, or lists of words, to items that remember where each token stands."""

    tokenizer: Tokenizer
    options: Options

    @property
    def model_limit_tokens(self) -> int:
        """The most tokens of an item that the model can take."""
        return self.tokenizer.model_limit_tokens

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """One item per row, more for rows that are split.

        Raises:
            SpecError: the limit, or the stride, leaves no room for the text; lists where texts are meant.
            ModelError: a text is to be split, and the tokenizer knows no places.
        """
        require_room(limit, self._transformers_tokenizer.num_special_tokens_to_add(pair=False))
        if pa.types.is_nested(inputs["text"].type) and not self.options.is_split_into_words:
            hint = "add options.is_split_into_words: true"
            raise SpecError(
                (Problem("spec", "input.columns.text", "is a column of lists, not of texts", hint),)
            )
        tokens, texts = self._tokenize(inputs["text"].to_pylist())
        if self.options.aggregation_strategy in WORD_STRATEGIES:
            tokens = replace(tokens, words=number_words(tokens, texts, self._transformers_tokenizer))
        cut, rejections = self._cut(tokens, limit)
        layout = lay_out(cut.tokens, [texts[row] for row in cut.rows.tolist()], self._transformers_tokenizer)
        truncated = (tokens.lengths > limit.max_tokens) & (limit.overflow == "truncate")
        return TaskItems(make_items(self.tokenizer, cut, layout=layout), truncated, rejections)

    @property
    def _transformers_tokenizer(self) -> Any:
        return self.tokenizer.transformers_tokenizer

    @property
    def _is_fast(self) -> bool:
        return bool(self._transformers_tokenizer.is_fast)

    def _tokenize(self, values: Sequence[Any]) -> tuple[Tokens, Sequence[str]]:
        """Tokens of N rows at their full length, and the texts their places count in."""
        parts = [self._tokenize_chunk(chunk) for (chunk,) in chunk_rows(values)]
        return join_tokens([tokens for tokens, _ in parts]), [text for _, texts in parts for text in texts]

    def _tokenize_chunk(self, values: Sequence[Any]) -> tuple[Tokens, Sequence[str]]:
        if not self._is_fast:
            slow = self._transformers_tokenizer
            return read_slow_tokens(
                [slow(text, return_special_tokens_mask=True, verbose=False) for text in values]
            ), values
        backend = self._transformers_tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        if not self.options.is_split_into_words:
            return read_tokens(backend.encode_batch(values)), values
        words = [split_words(value, self.options.delimiter) for value in values]
        tokens = read_tokens(backend.encode_batch(words, is_pretokenized=True))
        texts = [self.options.delimiter.join(row) for row in words]
        return count_from_text(tokens, words, self.options.delimiter), texts

    def _cut(self, tokens: Tokens, limit: Limit) -> tuple[Cut, tuple[Rejection, ...]]:
        if limit.overflow == "split":
            strides = np.full(len(tokens), self._choose_stride(limit))
            return cut_windows(tokens, 0, limit.max_tokens, strides), ()
        if limit.overflow == "truncate":
            return cut_ends(tokens, limit.max_tokens, self._transformers_tokenizer.truncation_side), ()
        is_long = tokens.lengths > limit.max_tokens
        fits = np.flatnonzero(~is_long)
        return Cut(tokens.keep(fits), fits), reject_long(tokens, is_long, limit)

    def _choose_stride(self, limit: Limit) -> int:
        """Tokens that neighbouring windows share."""
        if not self._is_fast:
            raise ModelError(
                "a text cannot be split without a fast tokenizer",
                str(self._transformers_tokenizer.name_or_path),
                "set shapes.overflow to truncate or reject",
            )
        room = limit.max_tokens - self._transformers_tokenizer.num_special_tokens_to_add(pair=False)
        if self.options.stride is None:
            return 0 if self.options.aggregation_strategy == "none" else room // 4
        if self.options.stride >= room:
            what = f"{self.options.stride} tokens, and a window holds {room}"
            raise SpecError((Problem("spec", "options.stride", what, "choose fewer"),))
        return self.options.stride
