"""question-answering: the part of a context that answers a question.

Semantics of the pipeline of transformers 4.57, which later versions no longer have. A context longer than an
item always becomes windows; the best answers of all of them are those of the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from batchneuron.errors import ModelError
from batchneuron.model import Model
from batchneuron.stages.items import Items, Outputs
from batchneuron.stages.tokenize import Tokenizer
from batchneuron.tasks.answer_encoder import AnswerEncoder, Layout, Options
from batchneuron.tasks.answers import Answers, merge_answers
from batchneuron.tasks.spans import Spans, find_spans
from batchneuron.tasks.task import Decoded, TaskKind
from batchneuron.tasks.windows import to_bounds

# Spans that read the same become one answer, and more of them do when they are widened to words: so many
# more are looked for in each window.
_SPARE_SPANS = 10


@dataclass(frozen=True, slots=True)
class QuestionAnswering:
    """Answers to questions about contexts."""

    model: Model
    options: Options
    opened: AnswerEncoder | None = None
    """Has the tokenizer of the model open already; None: it is opened here."""

    @property
    def schema(self) -> pa.Schema:
        """`answer`, `score`, `start` and `end`, or `answers`: a list of them, likeliest first."""
        fields = [
            pa.field("answer", pa.string()),
            pa.field("score", pa.float32()),
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
        ]
        return pa.schema(fields if self.options.top_k == 1 else [("answers", pa.list_(pa.struct(fields)))])

    def open_encoder(self) -> AnswerEncoder:
        """The model's tokenizer.

        Raises:
            ModelError: the tokenizer does not know where its tokens stand in a text.
        """
        tokenizer = self.opened.tokenizer if self.opened else Tokenizer(self.model)
        if not tokenizer.transformers_tokenizer.is_fast:
            raise ModelError(
                "its tokenizer is not a fast one, and cannot say where an answer stands",
                str(self.model.folder),
                "choose a model with a tokenizer.json",
            )
        return AnswerEncoder(tokenizer, self.options)

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Logits of each token as an answer's first, and as its last: float32 [B, L] each."""
        outputs = model(**inputs)
        return outputs.start_logits.float(), outputs.end_logits.float()

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """The likeliest answers of each row, those of its windows ranked together.

        A row without any, because its context has no token, is answered by the empty text with score 0;
        its list of answers is empty.
        """
        layout: Layout = items.host["layout"]
        options = self.options
        count = 2 * options.top_k + _SPARE_SPANS if options.align_to_words else options.top_k
        spans, nulls = find_spans(outputs, layout.answerable, options.max_answer_len, count)
        answers = _read_answers(spans, layout, items)
        if options.handle_impossible_answer:
            heads = np.searchsorted(items.rows, np.arange(rows))
            answers = answers.add_empty(np.arange(rows), np.minimum.reduceat(nulls, heads).astype(np.float64))
        if options.top_k == 1:
            unanswered = np.setdiff1d(np.arange(rows), answers.rows)
            answers = answers.add_empty(unanswered, np.zeros(len(unanswered)))
        return Decoded(self._tabulate(answers.rank(options.top_k), rows))

    def _tabulate(self, answers: Answers, rows: int) -> pa.Table:
        """The task's columns of A rows."""
        columns = [
            pa.array(answers.texts, pa.string()),
            pa.array(answers.scores.astype(np.float32)),
            pa.array(answers.starts),
            pa.array(answers.ends),
        ]
        if self.options.top_k == 1:
            return pa.table(columns, schema=self.schema)
        offsets = pa.array(to_bounds(np.bincount(answers.rows, minlength=rows)).astype(np.int32))
        structs = pa.StructArray.from_arrays(columns, fields=list(self.schema.field(0).type.value_type))
        return pa.table([pa.ListArray.from_arrays(offsets, structs)], schema=self.schema)


def _read_answers(spans: Spans, layout: Layout, items: Items) -> Answers:
    """What the spans say, in the order of windows; token places where a token is part of no word."""
    tokens = layout.tokens
    wordless = (tokens.words[spans.firsts] < 0) | (tokens.words[spans.lasts] < 0)
    starts = np.where(wordless, tokens.starts[spans.firsts], layout.starts[spans.firsts])
    ends = np.where(wordless, tokens.ends[spans.lasts], layout.ends[spans.lasts])
    contexts = [layout.contexts[window] for window in spans.windows.tolist()]
    return merge_answers(items.rows[spans.windows], (starts, ends), spans.scores, contexts)


KIND = TaskKind(
    name="question-answering",
    inputs=("question", "context"),
    optional_inputs=(),
    default_model="distilbert/distilbert-base-cased-distilled-squad",
    auto_model="AutoModelForQuestionAnswering",
    options=Options,
    open=QuestionAnswering,
)
