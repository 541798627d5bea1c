"""The encoder of question-answering: questions and contexts to windows that remember places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from batchneuron.errors import Problem, SpecError
from batchneuron.spec.sections import PositiveInt
from batchneuron.stages.items import TaskItems
from batchneuron.stages.tokenize import Limit, Tokenizer
from batchneuron.tasks.spans import Answerable
from batchneuron.tasks.task import TaskOptions
from batchneuron.tasks.windows import (
    Cut,
    Ints,
    Tokens,
    chunk_rows,
    cut_windows,
    drop,
    join_tokens,
    make_items,
    read_tokens,
    reject_long,
    require_room,
)


class Options(TaskOptions):
    """Options of question-answering."""

    top_k: PositiveInt = Field(
        1, description="1 gives the columns answer, score, start and end; more, a sorted list of them."
    )
    doc_stride: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Tokens that neighbouring windows share; default: half a window, at most 128.",
    )
    max_answer_len: PositiveInt = Field(15, description="The longest answer, in tokens.")
    max_question_len: PositiveInt = Field(
        64, description="The longest question, in tokens; what is beyond is cut, and the row marked."
    )
    handle_impossible_answer: bool = Field(
        False, description="Whether a row may be answered by the empty text."
    )
    align_to_words: bool = Field(True, description="Whether an answer begins and ends with whole words.")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the T tokens of N windows stand in their contexts; what decoding needs beside the logits."""

    tokens: Tokens
    answerable: Answerable
    starts: Ints
    """First character of an answer that begins with the token: [T]"""
    ends: Ints
    """One past the last character of an answer that ends with it: [T]"""
    contexts: list[str]
    """The context of each window, whole: [N]"""


@dataclass(frozen=True, slots=True)
class AnswerEncoder:
    """Questions and contexts to windows over the contexts."""

    tokenizer: Tokenizer
    options: Options

    @property
    def model_limit_tokens(self) -> int:
        """The most tokens of an item that the model can take."""
        return self.tokenizer.model_limit_tokens

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """One item per row, more where the context is long.

        Raises:
            SpecError: the limit, or the stride, leaves no room for a context.
        """
        stride = self._choose_stride(limit)
        contexts = inputs["context"].to_pylist()
        tokens = self._tokenize(inputs["question"].to_pylist(), contexts)
        tokens, truncated = self._cut_questions(tokens)
        first, last = tokens.find_text(self._context)
        room = limit.max_tokens - (tokens.lengths - (last - first))
        refused = tokens.lengths > limit.max_tokens
        if limit.overflow != "reject":
            refused &= room < 1
        rows = np.flatnonzero(~refused)
        strides = np.where(stride < room, stride, room // 2)[rows]
        cut = cut_windows(tokens.keep(rows), self._context, limit.max_tokens, strides)
        cut = Cut(cut.tokens, rows[cut.rows])
        layout = self._lay_out(cut.tokens, [contexts[row] for row in cut.rows.tolist()])
        items = make_items(self.tokenizer, cut, layout=layout)
        return TaskItems(items, truncated & ~refused, reject_long(tokens, refused, limit))

    @property
    def _transformers_tokenizer(self) -> Any:
        return self.tokenizer.transformers_tokenizer

    @property
    def _context(self) -> int:
        """Which text of the pair is the context: models that are padded on the left have it first."""
        return 1 if self._transformers_tokenizer.padding_side == "right" else 0

    def _tokenize(self, questions: Sequence[str], contexts: Sequence[str]) -> Tokens:
        backend = self._transformers_tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        texts = (questions, contexts) if self._context == 1 else (contexts, questions)
        chunks = (list(zip(*chunk, strict=True)) for chunk in chunk_rows(*texts))
        return join_tokens([read_tokens(backend.encode_batch(pairs)) for pairs in chunks])

    def _cut_questions(self, tokens: Tokens) -> tuple[Tokens, NDArray[np.bool_]]:
        """The tokens without the ends of long questions, and which rows had one: [A]."""
        question, most = 1 - self._context, self.options.max_question_len
        first, last = tokens.find_text(question)
        is_long = last - first > most
        if not is_long.any():
            return tokens, is_long
        place = np.arange(len(tokens.ids)) - first[tokens.owners]
        return drop(tokens, (tokens.texts == question) & (place >= most)), is_long

    def _choose_stride(self, limit: Limit) -> int:
        """Tokens of the context that neighbouring windows share."""
        added = self._transformers_tokenizer.num_special_tokens_to_add(pair=True)
        require_room(limit, added)
        stride = self.options.doc_stride
        if stride is None:
            return min(limit.max_tokens // 2, 128)
        if stride >= limit.max_tokens - added:
            what = f"{stride} tokens, and a window holds {limit.max_tokens - added}"
            raise SpecError((Problem("spec", "options.doc_stride", what, "choose fewer"),))
        return stride

    def _lay_out(self, tokens: Tokens, contexts: list[str]) -> Layout:
        context = tokens.texts == self._context
        weighed = context | (tokens.ids == self._transformers_tokenizer.cls_token_id)
        starts, ends = widen_to_words(tokens) if self.options.align_to_words else (tokens.starts, tokens.ends)
        return Layout(tokens, Answerable(tokens.bounds, context, weighed), starts, ends, contexts)


def widen_to_words(tokens: Tokens) -> tuple[Ints, Ints]:
    """Where the word of each token begins and ends, as far as it is in the token's sequence: [T] each."""
    facts = (tokens.owners, tokens.texts, tokens.words)
    is_head = np.ones(len(tokens.ids) + 1, dtype=np.bool_)
    is_head[1:-1] = np.any([fact[1:] != fact[:-1] for fact in facts], axis=0)
    heads = np.flatnonzero(is_head)
    word = np.cumsum(is_head[:-1]) - 1
    return tokens.starts[heads[word]], tokens.ends[heads[word + 1] - 1]
