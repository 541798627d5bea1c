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
        ids, types = self._encode_whole(texts, pairs)
        lengths = np.fromiter((len(row) for row in ids), np.int32, len(ids))
        long_rows = np.flatnonzero(lengths > limit.max_tokens)
        rows = list(range(len(ids)))
        if long_rows.size and limit.overflow != "reject":
            ids, types, rows = self._replace_long(texts, pairs, limit, (ids, types))
        rejections: tuple[Rejection, ...] = ()
        if limit.overflow == "reject":
            rejections = tuple(_reject(int(row), int(lengths[row]), limit) for row in long_rows)
            kept = [row for row in rows if lengths[row] <= limit.max_tokens]
            ids, types, rows = [ids[row] for row in kept], [types[row] for row in kept], kept
        truncated = np.zeros(len(texts), dtype=np.bool_)
        if limit.overflow != "reject":
            # A long row of one item was cut: asked to, or because there was nothing to split.
            truncated[long_rows] = np.bincount(rows, minlength=len(texts))[long_rows] == 1
        return TaskItems(self.pack(ids, types, rows), truncated, rejections)

    def _encode_whole(
        self, texts: Sequence[str], pairs: Sequence[str] | None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids and type ids of each row, at their full length."""
        if self._backend is None:
            encoded = self.transformers_tokenizer(
                list(texts), list(pairs) if pairs is not None else None, verbose=False
            )
            types = encoded.get("token_type_ids") or [[0] * len(row) for row in encoded["input_ids"]]
            return encoded["input_ids"], types
        self._backend.no_truncation()
        self._backend.no_padding()
        batch = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self._backend.encode_batch_fast(batch)
        return [encoding.ids for encoding in encodings], [encoding.type_ids for encoding in encodings]

    def _replace_long(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        limit: Limit,
        whole: tuple[list[list[int]], list[list[int]]],
    ) -> tuple[list[list[int]], list[list[int]], list[int]]:
        """The rows again, with each long one cut to the limit, or replaced by its windows."""
        ids: list[list[int]] = []
        types: list[list[int]] = []
        rows: list[int] = []
        for row, (row_ids, row_types) in enumerate(zip(*whole, strict=True)):
            windows = [(row_ids, row_types)]
            if len(row_ids) > limit.max_tokens:
                pair = pairs[row] if pairs is not None else None
                windows = self._windows(texts[row], pair, limit, len(row_ids))
            for window_ids, window_types in windows:
                ids.append(window_ids)
                types.append(window_types)
                rows.append(row)
        return ids, types, rows

    def _windows(
        self, text: str, pair: str | None, limit: Limit, tokens: int
    ) -> list[tuple[list[int], list[int]]]:
        """A row of too many tokens cut to the limit, or the windows over it.

        Of a pair only the first text is split; where the second leaves no room in a window there is
        nothing to split, and the longer of the two is cut.
        """
        if limit.overflow == "split" and pair is None:
            return self._cut(text, pair, limit.max_tokens, "longest_first")
        if limit.overflow == "split":
            first = len(
                self.transformers_tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            )
            if tokens - first < limit.max_tokens:
                return self._cut(text, pair, limit.max_tokens, "only_first")
        return self._cut(text, pair, limit.max_tokens, "longest_first")[:1]

    def _cut(self, text: str, pair: str | None, most: int, how: str) -> list[tuple[list[int], list[int]]]:
        """The first window, and those that go on after it where the tokenizer can say."""
        encoded = self.transformers_tokenizer(
            text,
            pair,
            truncation=how,
            max_length=most,
            return_overflowing_tokens=True,
            return_token_type_ids=True,
            verbose=False,
        )
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        if ids and isinstance(ids[0], int):
            return [(ids, types)]
        return list(zip(ids, types, strict=True))

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


def _reject(row: int, tokens: int, limit: Limit) -> Rejection:
    return Rejection(row, "too_long", f"{tokens} tokens, and the longest shape holds {limit.max_tokens}")
