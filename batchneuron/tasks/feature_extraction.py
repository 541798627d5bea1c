"""feature-extraction: one vector per text, pooled and normalised on the device, or one per token.

What is not given follows the model's sentence-transformers files: pooling, normalisation, prompts,
maximum length. A folder without them is mean-pooled and not normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from batchneuron.errors import Problem, SpecError
from batchneuron.model import Model
from batchneuron.planning.plan import Calibration
from batchneuron.rejection import Rejection
from batchneuron.spec.sections import PositiveInt
from batchneuron.stages.items import Items, Outputs, TaskItems, fold_mean
from batchneuron.stages.tokenize import Limit, Tokenizer
from batchneuron.tasks.quantize import (
    LARGEST_FLOAT16,
    Ranges,
    join_ranges,
    measure_ranges,
    quantize,
    read_ranges,
    vector_type,
)
from batchneuron.tasks.task import Decoded, TaskKind, TaskOptions, reject_rows

Pooling = Literal["mean", "cls", "max", "last", "none"]
_TINY = 1e-12  # the floor of torch.nn.functional.normalize


class Options(TaskOptions):
    """Options of feature-extraction."""

    pooling: Pooling | Literal["auto"] = Field(
        "auto",
        description="How token vectors become one; none keeps them; auto: as the model's files say, or mean.",
    )
    normalize: bool | Literal["auto"] = Field(
        "auto", description="Scale each vector to length 1; auto: as the model's files say, or no."
    )
    truncate_dim: PositiveInt | None = Field(None, description="Keep only the first so many numbers.")
    prompt: str | None = Field(None, description="Text put before every input.")
    prompt_name: str | None = Field(None, description="Name of one of the model's own prompts.")
    dtype: Literal["float32", "float16", "int8", "binary", "ubinary"] = Field(
        "float32", description="Type of the numbers in the output; int8 is calibrated once per run."
    )


@dataclass(frozen=True, slots=True)
class PromptedEncoder:
    """Texts with a prompt before each, to items."""

    tokenizer: Tokenizer
    prompt: str
    lower_case: bool

    @property
    def model_limit_tokens(self) -> int:
        """The most tokens of an item that the model can take."""
        return self.tokenizer.model_limit_tokens

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """One item per row, more for rows that are split."""
        texts = inputs["text"]
        if self.prompt:
            prompt, nothing = pa.scalar(self.prompt, texts.type), pa.scalar("", texts.type)
            texts = pc.binary_join_element_wise(prompt, texts, nothing)
        if self.lower_case:
            texts = pc.utf8_lower(texts)
        return self.tokenizer.encode(texts.to_pylist(), None, limit)


@dataclass(frozen=True, slots=True)
class FeatureExtraction:
    """Embeddings of texts."""

    model: Model
    options: Options
    opened: PromptedEncoder | None = None
    """Has the tokenizer of the model open already; None: it is opened here."""
    ranges: Ranges | None = None
    """What int8 numbers stand for; None until it is calibrated."""

    def __post_init__(self) -> None:
        self._find_prompt()
        if self.pooling == "none" and self.options.dtype not in ("float32", "float16"):
            what = f"token vectors cannot be {self.options.dtype}"
            raise SpecError((Problem("spec", "options.dtype", what, "use float32 or float16, or a pooling"),))

    @property
    def pooling(self) -> str:
        """One of mean, cls, max, last, none."""
        if self.options.pooling != "auto":
            return self.options.pooling
        return self.model.sentence.pooling if self.model.sentence else "mean"

    @property
    def normalize(self) -> bool:
        """Whether vectors have length 1."""
        if self.options.normalize != "auto":
            return self.options.normalize
        return self.model.sentence.normalize if self.model.sentence else False

    @property
    def width(self) -> int:
        """Numbers per vector."""
        hidden = self.model.hidden_size
        return min(hidden, self.options.truncate_dim or hidden)

    @property
    def schema(self) -> pa.Schema:
        """`embedding`: a fixed-size list, or a list of them, one per token, without pooling."""
        vector = vector_type(self.options.dtype, self.width)
        kind = pa.list_(vector) if self.pooling == "none" else vector
        return pa.schema(
            [pa.field("embedding", kind, metadata=self.ranges.describe() if self.ranges else None)]
        )

    def open_encoder(self) -> PromptedEncoder:
        """The model's tokenizer, and the prompt."""
        lower = self.model.sentence.do_lower_case if self.model.sentence else False
        tokenizer = self.opened.tokenizer if self.opened else Tokenizer(self.model)
        return PromptedEncoder(tokenizer, self._find_prompt(), lower)

    def _find_prompt(self) -> str:
        sentence = self.model.sentence
        if self.options.prompt is not None:
            return self.options.prompt
        name = self.options.prompt_name or (sentence.default_prompt_name if sentence else None)
        prompts = sentence.prompts if sentence else {}
        if name is None:
            return ""
        if name not in prompts:
            known = f"the model has {', '.join(sorted(prompts))}" if prompts else "the model has none"
            raise SpecError((Problem("spec", "options.prompt_name", f"no prompt '{name}'", known),))
        return prompts[name]

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Vectors: float32 [B, H], or [B, L, H] without pooling."""
        hidden = model(**inputs)[0].float()
        vectors = _pool(self.pooling, hidden, inputs["attention_mask"])[..., : self.width]
        if self.normalize:
            vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=_TINY)
        return (vectors,)

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """`embedding` of each row.

        A row that was split gets the mean of its windows' vectors, weighted by their tokens, and
        scaled again where vectors are normalised; its token vectors are joined.
        """
        if self.pooling == "none":
            return self._decode_tokens(items, rows, outputs)
        vectors = fold_mean(outputs.stack(0), items, rows)
        rejections = reject_rows(
            np.count_nonzero(vectors, axis=1) == 0, "zero_norm", "the vector is all zeros"
        )
        if self.normalize and len(items) != rows:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
        rejections += self._reject_large(vectors, np.arange(rows))
        return Decoded(pa.table([self._vectors(vectors)], schema=self.schema), rejections)

    def measure(self, items: Items, rows: int, outputs: Outputs) -> Calibration:
        """The range of each dimension over some rows."""
        vectors = fold_mean(outputs.stack(0), items, rows)
        return measure_ranges(np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0))

    def calibrate(self, measured: Sequence[Calibration]) -> Calibration:
        """The range of each dimension over all samples."""
        return join_ranges(measured, self.width)

    def with_calibration(self, calibration: Calibration) -> FeatureExtraction:
        """The task that quantises by these ranges."""
        return replace(self, ranges=read_ranges(calibration))

    def _decode_tokens(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """Token vectors, fillers cut off: each row's windows one after the other."""
        ends = np.cumsum(items.lengths, dtype=np.int64)
        flat = np.empty((int(ends[-1]), self.width), dtype=np.float32)
        for batch in outputs.batches:
            for pick, vectors in zip(batch.picks, batch.tensors[0], strict=True):
                length = items.lengths[pick]
                flat[ends[pick] - length : ends[pick]] = vectors[:length]
        row_ends = ends[np.searchsorted(items.rows, np.arange(rows), side="right") - 1]
        offsets = pa.array(np.concatenate([[0], row_ends]).astype(np.int32))
        columns = [pa.ListArray.from_arrays(offsets, self._vectors(flat))]
        rejections = self._reject_large(flat, np.repeat(items.rows, items.lengths))
        return Decoded(pa.table(columns, schema=self.schema), rejections)

    def _reject_large(self, vectors: NDArray[np.float32], owners: NDArray[np.intp]) -> tuple[Rejection, ...]:
        """The rows of those vectors that the numbers' type cannot hold; `owners`: the row of each vector."""
        if self.options.dtype != "float16":
            return ()
        large = np.unique(owners[np.abs(vectors).max(axis=1) > LARGEST_FLOAT16])
        what = "a number beyond what float16 can hold"
        return tuple(Rejection(row, "non_finite", what) for row in large.tolist())

    def _vectors(self, vectors: NDArray[np.float32]) -> pa.Array:
        """A fixed-size list over the numbers as they lie in memory."""
        numbers = np.ascontiguousarray(quantize(vectors, self.options.dtype, self.ranges))
        return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])


def _pool(pooling: str, hidden: Any, attention_mask: Any) -> Any:
    """One vector per text: [B, L, H] and [B, L] to [B, H]; `none` leaves [B, L, H]."""
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    match pooling:
        case "mean":
            return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        case "cls":
            return hidden[:, 0]
        case "max":
            return (hidden * mask + (mask - 1.0) * 1e9).amax(1)
        case "last":
            last = (attention_mask.sum(1) - 1).clamp(min=0)
            return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze(1)
        case _:
            return hidden


KIND = TaskKind(
    name="feature-extraction",
    inputs=("text",),
    optional_inputs=(),
    default_model="distilbert/distilbert-base-cased",
    auto_model="AutoModel",
    options=Options,
    open=FeatureExtraction,
    needs_calibration=lambda options: options.dtype == "int8",
)
