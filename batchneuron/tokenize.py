"""Texts to items: tokens of each text, cut, split or rejected at the longest shape.

Truncation and padding that a tokenizer file carries are switched off: the limit is the ladder's, and
nothing is cut without being counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchneuron.errors import Problem, SpecError
from batchneuron.items import Items, Ragged, TaskItems
from batchneuron.model import Model
from batchneuron.rejection import Rejection

Overflow = Literal["truncate", "split", "reject"]
_NO_LIMIT = 100_000  # tokenizers without a limit of their own say 1e30
_DEFAULT_LIMIT = 512


@dataclass(frozen=True, slots=True)
class Limit:
    """The longest item, and what happens to a row beyond it."""

    max_tokens: int
    overflow: Overflow


@dataclass(frozen=True, slots=True)
class _Window:
    """The tokens of a row, or of a piece of it."""

    row: int
    ids: list[int]
    types: list[int]


class Tokenizer:
    """A model's own tokenizer, with the limit of the job."""

    def __init__(self, model: Model) -> None:
        from transformers import AutoTokenizer

        self.transformers_tokenizer: Any = AutoTokenizer.from_pretrained(
            model.folder, trust_remote_code=model.trust_remote_code, local_files_only=True
        )
        self._backend: Any = getattr(self.transformers_tokenizer, "backend_tokenizer", None)
        self._is_typed = "token_type_ids" in self.transformers_tokenizer.model_input_names
        pad = self.transformers_tokenizer.pad_token_id
        self._fills = {
            "input_ids": int(pad if pad is not None else model.config.get("pad_token_id") or 0),
            "token_type_ids": int(getattr(self.transformers_tokenizer, "pad_token_type_id", 0) or 0),
        }
        limits = [self.transformers_tokenizer.model_max_length, model.max_positions]
        if model.sentence is not None:
            limits.append(model.sentence.max_seq_length)
        known = [int(limit) for limit in limits if limit is not None and 0 < limit < _NO_LIMIT]
        self.model_limit_tokens = min(known, default=_DEFAULT_LIMIT)
        """The most tokens the model can take."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, limit: Limit) -> TaskItems:
        """Items of A texts (or text pairs), one each, more where a long one is split.

        Args:
            texts: A texts.
            pairs: A second texts, or None.
            limit: where items end, and what becomes of a longer row.
        """
        self._require_room(limit, is_pair=pairs is not None)
        windows: list[_Window] = []
        rejections: list[Rejection] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for row, whole in enumerate(self._encode_whole(texts, pairs)):
            tokens = len(whole.ids)
            if 0 < tokens <= limit.max_tokens:
                windows.append(whole)
            elif tokens == 0:
                rejections.append(_reject_empty(row))
            elif limit.overflow == "reject":
                rejections.append(_reject_long(row, tokens, limit))
            else:
                pieces = self._divide(whole, texts[row], pairs[row] if pairs is not None else None, limit)
                truncated[row] = len(pieces) == 1
                windows += pieces
        ids, types = [window.ids for window in windows], [window.types for window in windows]
        items = self.pack(ids, types, [window.row for window in windows])
        return TaskItems(items, truncated, tuple(rejections))

    def _require_room(self, limit: Limit, *, is_pair: bool) -> None:
        """Refuse a limit that the special tokens alone would fill.

        Raises:
            SpecError: it leaves no place for a token of the text.
        """
        special = int(self.transformers_tokenizer.num_special_tokens_to_add(pair=is_pair))
        if limit.max_tokens <= special:
            what = f"{limit.max_tokens} tokens leave no room beside {special} special ones"
            raise SpecError((Problem("spec", "shapes", what, "give a longer sequence_length or max_length"),))

    def _encode_whole(self, texts: Sequence[str], pairs: Sequence[str] | None) -> list[_Window]:
        """Each row at its full length."""
        if self._backend is None:
            encoded = self.transformers_tokenizer(
                list(texts), list(pairs) if pairs is not None else None, verbose=False
            )
            ids = encoded["input_ids"]
            types = encoded.get("token_type_ids") or [[0] * len(row) for row in ids]
            return [_Window(row, *both) for row, both in enumerate(zip(ids, types, strict=True))]
        self._backend.no_truncation()
        self._backend.no_padding()
        batch = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self._backend.encode_batch_fast(batch)
        return [_Window(row, encoding.ids, encoding.type_ids) for row, encoding in enumerate(encodings)]

    def _divide(self, whole: _Window, text: str, pair: str | None, limit: Limit) -> list[_Window]:
        """A row that is too long: cut to the limit, or the windows over it.

        Of a pair only the first text is split; where the second leaves no room in a window there is
        nothing to split, and the longer of the two is cut.
        """
        if limit.overflow == "split" and pair is None:
            return self._cut(whole.row, (text, None), limit.max_tokens, "longest_first")
        if limit.overflow == "split":
            first = len(
                self.transformers_tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            )
            if len(whole.ids) - first < limit.max_tokens:
                return self._cut(whole.row, (text, pair), limit.max_tokens, "only_first")
        return self._cut(whole.row, (text, pair), limit.max_tokens, "longest_first")[:1]

    def _cut(self, row: int, texts: tuple[str, str | None], most: int, how: str) -> list[_Window]:
        """The first window, and those that go on after it where the tokenizer can say."""
        encoded = self.transformers_tokenizer(
            *texts,
            truncation=how,
            max_length=most,
            return_overflowing_tokens=True,
            return_token_type_ids=True,
            verbose=False,
        )
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        if ids and isinstance(ids[0], int):
            return [_Window(row, ids, types)]
        return [_Window(row, *both) for both in zip(ids, types, strict=True)]

    def pack(self, ids: Sequence[list[int]], types: Sequence[list[int]], rows: Sequence[int]) -> Items:
        """Items of N token lists, and the row each belongs to."""
        if not self._is_typed:
            types = [[0] * len(row) for row in ids]
        lengths = np.fromiter((len(row) for row in ids), np.int32, len(ids))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return Items(
            rows=np.array(rows, dtype=np.int64),
            lengths=lengths,
            tensors={"input_ids": _flat(ids, offsets), "token_type_ids": _flat(types, offsets)},
            fills=self._fills,
        )


def _flat(rows: Sequence[list[int]], offsets: NDArray[np.int64]) -> Ragged:
    values = np.fromiter((value for row in rows for value in row), np.int32, int(offsets[-1]))
    return Ragged(values, offsets)


def _reject_empty(row: int) -> Rejection:
    return Rejection(row, "empty_input", "the text has no token, and the model adds none")


def _reject_long(row: int, tokens: int, limit: Limit) -> Rejection:
    return Rejection(row, "too_long", f"{tokens} tokens, and the longest shape holds {limit.max_tokens}")
