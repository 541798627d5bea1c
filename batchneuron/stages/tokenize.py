"""Texts to items: tokens of each text, cut, split or rejected at the longest shape.

Truncation and padding that a tokenizer file carries are switched off: the limit is the ladder's, and
nothing is cut without being counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from batchneuron.errors import Problem, SpecError
from batchneuron.model import Model
from batchneuron.rejection import Rejection
from batchneuron.stages.fast_tokenizer import open_tokenizer
from batchneuron.stages.items import Items, Ragged, TaskItems

Overflow = Literal["truncate", "split", "reject"]
# An encoding keeps every token as a text of its own, 10 kB for a page; freeing thousands of them at once
# would also hold up the thread that feeds the device.
CHUNK_ROWS = 256
_NO_LIMIT = 100_000  # tokenizers without a limit of their own say 1e30
_DEFAULT_LIMIT = 512
_Flat = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Rows [n], lengths [n], ids and types [sum of lengths] of n windows."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The longest item, and what happens to a row beyond it."""

    max_tokens: int
    overflow: Overflow


@dataclass(frozen=True, slots=True)
class _Texts:
    """Some rows' texts, and their second texts."""

    texts: Sequence[str]
    pairs: Sequence[str | None] | None

    def __len__(self) -> int:
        return len(self.texts)

    def chunk(self, start: int) -> _Texts:
        """Those from one row on, not too many."""
        rows = slice(start, start + CHUNK_ROWS)
        return _Texts(self.texts[rows], self.pairs if self.pairs is None else self.pairs[rows])

    def row(self, row: int) -> tuple[str, str | None]:
        """One row's."""
        return self.texts[row], None if self.pairs is None else self.pairs[row]


@dataclass(frozen=True, slots=True)
class _Window:
    """The tokens of a row, or of a piece of it; has the names of an encoding of `tokenizers`."""

    ids: list[int]
    type_ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of a row that is not one item as it is."""

    windows: Sequence[Any] = ()
    truncated: bool = False
    rejection: Rejection | None = None


class Tokenizer:
    """A model's own tokenizer, with the limit of the job."""

    def __init__(self, model: Model) -> None:
        self.transformers_tokenizer: Any = open_tokenizer(model)
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

    def encode(self, texts: Sequence[str], pairs: Sequence[str | None] | None, limit: Limit) -> TaskItems:
        """Items of A texts (or text pairs), one each, more where a long one is split.

        Args:
            texts: A texts.
            pairs: A second texts, None for a row that has none; or None for no second text anywhere.
            limit: where items end, and what becomes of a longer row.
        """
        self._require_room(limit, is_pair=pairs is not None)
        rows, parts, rejections = _Texts(texts, pairs), [], []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = rows.chunk(start)
            encodings = self._run(chunk, limit)
            fates = self._settle(encodings, chunk, limit)
            for row, fate in fates.items():
                truncated[start + row] = fate.truncated
                if fate.rejection is not None:
                    rejections.append(replace(fate.rejection, row=start + row))
            parts.append(self._flatten(encodings, fates, start, is_pair=pairs is not None))
        return TaskItems(self._join(parts), truncated, tuple(rejections))

    def pack(self, ids: Sequence[list[int]], types: Sequence[list[int]], rows: Sequence[int]) -> Items:
        """Items of N token lists, and the row each belongs to."""
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        total = int(lengths.sum())
        flat_types = _flat(types, total) if self._is_typed else np.zeros(total, dtype=np.int32)
        return self._join([(np.array(rows, dtype=np.int64), lengths, _flat(ids, total), flat_types)])

    def _require_room(self, limit: Limit, *, is_pair: bool) -> None:
        """Refuse a limit that the special tokens alone would fill.

        Raises:
            SpecError: it leaves no place for a token of the text.
        """
        special = int(self.transformers_tokenizer.num_special_tokens_to_add(pair=is_pair))
        if limit.max_tokens <= special:
            what = f"{limit.max_tokens} tokens leave no room beside {special} special ones"
            raise SpecError((Problem("spec", "shapes", what, "give a longer sequence_length or max_length"),))

    def _cuts_at_once(self, limit: Limit, *, is_pair: bool) -> bool:
        """Whether rows are cut while they are tokenised: not where it depends on the row how."""
        if self._backend is None or limit.overflow == "reject":
            return False
        return limit.overflow == "truncate" or not is_pair

    def _run(self, chunk: _Texts, limit: Limit) -> Sequence[Any]:
        """One encoding per row: cut already, or at its full length."""
        texts, pairs = chunk.texts, chunk.pairs
        if self._backend is None:
            encoded = self.transformers_tokenizer(
                list(texts), list(pairs) if pairs is not None else None, verbose=False
            )
            ids = encoded["input_ids"]
            types = encoded.get("token_type_ids") or [[0] * len(row) for row in ids]
            return [_Window(*both) for both in zip(ids, types, strict=True)]
        self._backend.no_padding()
        if self._cuts_at_once(limit, is_pair=pairs is not None):
            side = self.transformers_tokenizer.truncation_side
            self._backend.enable_truncation(limit.max_tokens, strategy="longest_first", direction=side)
        else:
            self._backend.no_truncation()
        encodings: Sequence[Any] = self._backend.encode_batch_fast(
            texts
            if pairs is None
            else [text if pair is None else (text, pair) for text, pair in zip(texts, pairs, strict=True)]
        )
        self._backend.no_truncation()
        return encodings

    def _settle(self, encodings: Sequence[Any], chunk: _Texts, limit: Limit) -> dict[int, _Fate]:
        """What becomes of the rows that have no token, or too many."""
        lengths = np.fromiter(map(len, encodings), np.int32, len(encodings))
        fates = {row: _Fate(rejection=_reject_empty()) for row in np.flatnonzero(lengths == 0).tolist()}
        is_cut = self._cuts_at_once(limit, is_pair=chunk.pairs is not None)
        for row in np.flatnonzero(lengths >= limit.max_tokens).tolist():
            fate = self._fit(encodings[row], chunk.row(row), limit, is_cut=is_cut)
            if fate is not None:
                fates[row] = fate
        return fates

    def _fit(
        self, encoding: Any, texts: tuple[str, str | None], limit: Limit, *, is_cut: bool
    ) -> _Fate | None:
        """What becomes of a row that reaches the limit; None where it goes no further."""
        tokens = len(encoding)
        if is_cut:
            rest = encoding.overflowing
            if not rest:
                return None
            windows = [encoding, *rest] if limit.overflow == "split" else [encoding]
        elif tokens == limit.max_tokens:
            return None
        elif limit.overflow == "reject":
            return _Fate(rejection=_reject_long(tokens, limit))
        else:
            windows = self._divide(tokens, texts, limit)
        return _Fate(windows, truncated=len(windows) == 1)

    def _divide(self, tokens: int, texts: tuple[str, str | None], limit: Limit) -> list[_Window]:
        """A row that is too long: cut to the limit, or the windows over it.

        Of a pair only the first text is split; where the second leaves no room in a window there is
        nothing to split, and the longer of the two is cut.
        """
        if limit.overflow == "split" and texts[1] is None:
            return self._cut(texts, limit.max_tokens, "longest_first")
        if limit.overflow == "split":
            alone = self.transformers_tokenizer(texts[0], add_special_tokens=False, verbose=False)
            if tokens - len(alone["input_ids"]) < limit.max_tokens:
                return self._cut(texts, limit.max_tokens, "only_first")
        return self._cut(texts, limit.max_tokens, "longest_first")[:1]

    def _cut(self, texts: tuple[str, str | None], most: int, how: str) -> list[_Window]:
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
            return [_Window(ids, types)]
        return [_Window(*both) for both in zip(ids, types, strict=True)]

    def _flatten(
        self, encodings: Sequence[Any], fates: Mapping[int, _Fate], start: int, *, is_pair: bool
    ) -> _Flat:
        """A chunk's windows, in row order."""
        windows, counts = encodings, np.ones(len(encodings), dtype=np.int64)
        if fates:
            windows = [
                window
                for row, encoding in enumerate(encodings)
                for window in (fates[row].windows if row in fates else (encoding,))
            ]
            counts[list(fates)] = [len(fate.windows) for fate in fates.values()]
        lengths = np.fromiter(map(len, windows), np.int32, len(windows))
        total = int(lengths.sum())
        types = np.zeros(total, dtype=np.int32)
        if self._is_typed and (is_pair or self._types_of_one_text):
            types = _flat((window.type_ids for window in windows), total)
        rows = np.repeat(np.arange(start, start + len(encodings), dtype=np.int64), counts)
        return rows, lengths, _flat((window.ids for window in windows), total), types

    @cached_property
    def _types_of_one_text(self) -> bool:
        """Whether a text without a second one has any type but 0: XLNet's have."""
        return self._backend is None or any(self._backend.encode("a").type_ids)

    def _join(self, parts: Sequence[_Flat]) -> Items:
        """Items of some chunks."""
        nothing = (np.zeros(0, np.int64), *[np.zeros(0, np.int32)] * 3)
        rows, lengths, ids, types = (np.concatenate(arrays) for arrays in zip(nothing, *parts, strict=True))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        tensors = {"input_ids": Ragged(ids, offsets), "token_type_ids": Ragged(types, offsets)}
        return Items(rows, lengths, tensors, self._fills)


def gives_types(model: Model) -> bool:
    """Whether the model's own tokenizer gives `token_type_ids`; False where it has no tokenizer."""
    try:
        return "token_type_ids" in open_tokenizer(model).model_input_names
    except (OSError, ValueError):
        return False


def _flat(rows: Iterable[Sequence[int]], total: int) -> NDArray[np.int32]:
    return np.fromiter(chain.from_iterable(rows), np.int32, total)


def _reject_empty() -> Rejection:
    return Rejection(0, "empty_input", "the text has no token, and the model adds none")


def _reject_long(tokens: int, limit: Limit) -> Rejection:
    return Rejection(0, "too_long", f"{tokens} tokens, and the longest shape holds {limit.max_tokens}")
