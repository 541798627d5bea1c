"""fill-mask: the k likeliest tokens, or targets, for every mask in a text.

Semantics of `transformers.pipeline("fill-mask")`. Each mask is an item of its own, the same text with
another place to look at, so that one token of each item reaches the projection onto the vocabulary and
only the k best of its V numbers leave the device.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from batchneuron.errors import ModelError, Problem, SpecError
from batchneuron.model import Model
from batchneuron.spec.sections import PositiveInt
from batchneuron.stages.items import Items, Outputs, Ragged, TaskItems
from batchneuron.stages.tokenize import Limit, Tokenizer
from batchneuron.tasks.task import Decoded, TaskKind, TaskOptions, reject_rows

_WHOLE = Limit(sys.maxsize, "reject")
_FILL = pa.struct(
    [
        pa.field("score", pa.float32()),
        pa.field("token", pa.int32()),
        pa.field("token_str", pa.string()),
        pa.field("sequence", pa.string()),
    ]
)


class Options(TaskOptions):
    """Options of fill-mask."""

    top_k: PositiveInt = Field(5, description="How many tokens for each mask, likeliest first.")
    targets: Annotated[list[str], Field(min_length=1)] | None = Field(
        None, description="Score these words alone, each as one token of the vocabulary."
    )


@dataclass(frozen=True, slots=True)
class MaskEncoder:
    """Texts to items, one for each mask."""

    tokenizer: Tokenizer
    mask: int
    """The mask's token."""
    specials: tuple[int, int]
    """How many special tokens stand before a text, and behind it."""

    @property
    def model_limit_tokens(self) -> int:
        """The most tokens of an item that the model can take."""
        return self.tokenizer.model_limit_tokens

    def encode(self, inputs: pa.Table, limit: Limit) -> TaskItems:
        """One item per mask; texts without a mask, or with one that is cut off, are rejected.

        A text that is split gives each of its masks one window, with the mask in its middle.
        """
        texts = inputs["text"].to_pylist()
        made = self.tokenizer.encode(texts, None, limit if limit.overflow == "truncate" else _WHOLE)
        found, places = _find_token(made.items, self.mask)
        rows = made.items.rows[found]
        seen = np.bincount(rows, minlength=len(texts))
        there = self._count_masks(texts, made.truncated, seen)
        does_not_fit = np.zeros(len(texts), dtype=np.bool_)
        if limit.overflow == "reject" or limit.max_tokens <= sum(self.specials):
            does_not_fit[made.items.rows] = made.items.lengths > limit.max_tokens
        maskless, is_cut = there == 0, (there > seen) | does_not_fit
        rejections = (
            *reject_rows(maskless, "no_mask", "the mask token is not in the text"),
            *reject_rows(is_cut & ~maskless, "too_long", _explain_cut(limit)),
        )
        accepted = ~(maskless | is_cut)
        kept = accepted[rows]
        items = self._cut_windows(made.items, found[kept], places[kept], limit.max_tokens)
        return TaskItems(items, made.truncated & accepted, rejections)

    def _count_masks(
        self, texts: Sequence[str], truncated: NDArray[np.bool_], seen: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Masks of each text before it was cut: [A]."""
        cut = np.flatnonzero(truncated)
        if not cut.size:
            return seen
        whole = self.tokenizer.encode([texts[row] for row in cut.tolist()], None, _WHOLE).items
        counts = seen.copy()
        counts[cut] = np.bincount(_find_token(whole, self.mask)[0], minlength=len(cut))
        return counts

    def _cut_windows(
        self, texts: Items, found: NDArray[np.intp], places: NDArray[np.intp], max_tokens: int
    ) -> Items:
        """An item for the mask at each place of the texts found: M of them; texts that fit are not cut."""
        windows = [
            self._window(length, place, max_tokens)
            for length, place in zip(texts.lengths[found].tolist(), places.tolist(), strict=True)
        ]
        lengths = np.fromiter((len(window) for window, _ in windows), np.int32, len(windows))
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        ragged = {name: ragged for name, ragged in texts.tensors.items() if isinstance(ragged, Ragged)}
        whole = ragged["input_ids"]
        starts = whole.offsets[found].tolist()
        picked = [start + window for start, (window, _) in zip(starts, windows, strict=True)]
        taken = np.concatenate(picked) if picked else np.zeros(0, dtype=np.int64)
        position = np.fromiter((place for _, place in windows), np.int32, len(windows))
        tensors = {name: Ragged(source.values[taken], offsets) for name, source in ragged.items()}
        return replace(
            texts,
            rows=texts.rows[found],
            lengths=lengths,
            # One number for each item, which padding puts into the first column of [B, L].
            tensors={**tensors, "mask_position": Ragged(position, np.arange(len(windows) + 1))},
            host={"texts": whole, "text": found, "place": places},
        )

    def _window(self, length: int, place: int, max_tokens: int) -> tuple[NDArray[np.int64], int]:
        """Tokens of a text that an item has: int64 [at most max_tokens], and its mask's place there."""
        if length <= max_tokens:
            return np.arange(length), place
        before, behind = self.specials
        room = max_tokens - before - behind
        start = min(max(place - room // 2, before), length - behind - room)
        window = np.concatenate(
            [np.arange(before), np.arange(start, start + room), np.arange(length - behind, length)]
        )
        return window, place - start + before


@dataclass(frozen=True)
class FillMask:
    """Tokens for the masks of texts. No slots: what is read from the tokenizer is kept in the instance."""

    model: Model
    options: Options
    opened: MaskEncoder | None = None
    """Has the tokenizer of the model open already; None: it is opened here."""

    def __post_init__(self) -> None:
        if self.options.targets:
            _ = self.target_ids  # before a compiler traces the head: it would trace the tokenizer too

    @property
    def schema(self) -> pa.Schema:
        """`fills`: for each mask of the text, a list of what could stand there."""
        return pa.schema([("fills", pa.list_(pa.list_(_FILL)))])

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer for decoding; the encoder has its own, used from another thread.

        Where the task was given an encoder there is but one thread, and the encoder's is used.
        """
        tokenizer = self.opened.tokenizer if self.opened else Tokenizer(self.model)
        return tokenizer.transformers_tokenizer

    @cached_property
    def target_ids(self) -> list[int]:
        """Tokens to be scored, each once, in the order of the targets; empty: the whole vocabulary.

        Raises:
            SpecError: no target has a token.
        """
        targets = self.options.targets or []
        vocabulary = self.tokenizer.get_vocab() if targets else {}
        found = [_find_target(self.tokenizer, vocabulary, target) for target in targets]
        ids = list(dict.fromkeys(token for token in found if token is not None))
        if targets and not ids:
            raise SpecError((Problem("spec", "options.targets", "the vocabulary has no token for any"),))
        return ids

    def open_encoder(self) -> MaskEncoder:
        """The model's tokenizer, checked to have a mask token.

        Raises:
            ModelError: the tokenizer has no mask token.
        """
        tokenizer = self.opened.tokenizer if self.opened else Tokenizer(self.model)
        mask = tokenizer.transformers_tokenizer.mask_token_id
        if mask is None:
            raise ModelError(
                "the tokenizer has no mask token",
                str(self.model.folder),
                "choose a model that was trained to fill masks",
            )
        return MaskEncoder(tokenizer, mask, _count_specials(tokenizer.transformers_tokenizer))

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Probability and token of the k best: float32 and int32 [B, k]; of targets: float32 [B, T]."""
        others = {name: tensor for name, tensor in inputs.items() if name != "mask_position"}
        logits = run_at(model, others, inputs["mask_position"][:, :1])
        probabilities = logits.float().softmax(-1)
        if self.options.targets:
            return (probabilities[:, self.target_ids],)
        return take_best(probabilities, min(self.options.top_k, probabilities.shape[-1]))

    def decode(self, items: Items, rows: int, outputs: Outputs) -> Decoded:
        """`fills` of each row; equal targets in their own order."""
        scores, tokens = self._rank(outputs)
        used, inverse = np.unique(tokens, return_inverse=True)
        words = pa.array([self.tokenizer.decode([token]) for token in used.tolist()], pa.string())
        structs = pa.StructArray.from_arrays(
            [
                pa.array(np.ascontiguousarray(scores).reshape(-1), pa.float32()),
                pa.array(np.ascontiguousarray(tokens).reshape(-1), pa.int32()),
                words.take(pa.array(inverse.reshape(-1))),
                pa.array(self._fill(items, tokens), pa.string()),
            ],
            fields=list(_FILL),
        )
        fills = pa.ListArray.from_arrays(_offsets(np.full(len(items), tokens.shape[1])), structs)
        masks = pa.ListArray.from_arrays(_offsets(np.bincount(items.rows, minlength=rows)), fills)
        return Decoded(pa.table([masks], schema=self.schema))

    def _rank(self, outputs: Outputs) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scores and tokens, likeliest first: float32 and int32 [N, k]."""
        scores = outputs.stack(0)
        if not self.target_ids:
            return scores, outputs.stack(1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self.options.top_k]
        return np.take_along_axis(scores, best, axis=1), np.array(self.target_ids, np.int32)[best]

    def _fill(self, items: Items, tokens: NDArray[np.int32]) -> list[str]:
        """Each item's text with each of its k tokens in the mask's place: N times k texts.

        As transformers has it: special tokens are left out, but where a text has several masks they stay,
        or the other masks would be gone.
        """
        texts: Ragged = items.host["texts"]
        is_single = np.bincount(items.rows)[items.rows] == 1
        pad = self.tokenizer.pad_token_id
        filled: list[str] = []
        for item, (text, place) in enumerate(zip(items.host["text"], items.host["place"], strict=True)):
            ids = texts.values[texts.offsets[text] : texts.offsets[text + 1]]
            variants = np.repeat(ids[None], tokens.shape[1], axis=0)
            variants[:, place] = tokens[item]
            unpadded = [variant[variant != pad].tolist() for variant in variants]
            filled += self.tokenizer.batch_decode(unpadded, skip_special_tokens=bool(is_single[item]))
        return filled


def take_best(probabilities: Any, count: int) -> tuple[Any, Any]:
    """The largest of each row and their places, the first of equals first: float32 and int32 [B, count].

    One maximum after the other, because topk is a sort to a compiler: neuronx-cc has none on Trn2
    (NCC_EVRF029), and takes topk itself only for some widths.
    """
    import torch

    places = torch.arange(probabilities.shape[-1], dtype=torch.int32, device=probabilities.device)
    scores, found = [], []
    for _ in range(count):
        best = probabilities.amax(-1, keepdim=True)
        place = torch.where(probabilities == best, places, places[-1]).amin(-1, keepdim=True)
        probabilities = torch.where(places == place, -1.0, probabilities)
        scores.append(best)
        found.append(place)
    return torch.cat(scores, -1), torch.cat(found, -1)


class _Place:
    """Which token of each item is wanted while a model runs: how a head tells the model's hook."""

    def __init__(self) -> None:
        self.tensor: Any = None
        """int64 [B, 1]; None: all tokens"""

    def keep_one(self, _module: Any, _arguments: Any, output: Any) -> Any:
        """The encoder's output, its hidden states cut down to the wanted token: a forward hook."""
        if self.tensor is None:
            return output
        if isinstance(output, tuple):
            return (_take(output[0], self.tensor), *output[1:])
        if "last_hidden_state" in output:
            output["last_hidden_state"] = _take(output["last_hidden_state"], self.tensor)
        return output


def hook_encoder(model: Any) -> None:
    """Let `run_at` cut the encoder's output down to one token on its way to the model's head.

    A head of a masked language model looks at each token alone, so any architecture allows it. A hook does
    it, because every class names its encoder and its head differently. It is set once: compilers trace hooks
    that are there, and refuse to see one being set.
    """
    if model.base_model is not model:
        model.wanted_place = _Place()
        model.base_model.register_forward_hook(model.wanted_place.keep_one)


def run_at(model: Any, inputs: Mapping[str, Any], place: Any) -> Any:
    """Logits of one token of each item: [B, V], for places int64 [B, 1].

    Without `hook_encoder` the same numbers, but from a head that was run on every token.
    """
    wanted = getattr(model, "wanted_place", _Place())
    wanted.tensor = place
    try:
        logits = model(**inputs).logits
    finally:
        wanted.tensor = None
    # A head that reads something else than its encoder's first output still gives all L tokens.
    return (logits if logits.shape[1] == 1 else _take(logits, place)).squeeze(1)


def _take(tensor: Any, place: Any) -> Any:
    """One token of each item: [B, L, H] to [B, 1, H]; whole rows, which a device gathers at once."""
    import torch

    rows, length, _ = tensor.shape
    picked = torch.arange(rows, device=place.device) * length + place.squeeze(1)
    return tensor.flatten(0, 1).index_select(0, picked).unsqueeze(1)


def _find_token(items: Items, token: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where the token is, in order: item [M] and place in it [M]."""
    ragged = items.tensors["input_ids"]
    assert isinstance(ragged, Ragged)
    found = np.flatnonzero(ragged.values == token)
    owners = np.searchsorted(ragged.offsets, found, side="right") - 1
    return owners, found - ragged.offsets[owners]


def _find_target(tokenizer: Any, vocabulary: Mapping[str, int], target: str) -> int | None:
    """The target's token; of a word that is not in the vocabulary, its first; None for no token at all."""
    if target in vocabulary:
        return vocabulary[target]
    ids = tokenizer(target, add_special_tokens=False)["input_ids"]
    return int(ids[0]) if ids else None


def _count_specials(tokenizer: Any) -> tuple[int, int]:
    """Special tokens before a text, and behind it."""
    nothing, mask = (tokenizer(text)["input_ids"] for text in ("", tokenizer.mask_token))
    differ = [place for place, pair in enumerate(zip(nothing, mask, strict=False)) if pair[0] != pair[1]]
    before = differ[0] if differ else len(nothing)
    return before, len(nothing) - before


def _explain_cut(limit: Limit) -> str:
    what = "a mask is cut off" if limit.overflow == "truncate" else "the text is too long"
    return f"{what}: the longest shape holds {limit.max_tokens} tokens"


def _offsets(counts: NDArray[np.intp]) -> pa.Array:
    """Arrow offsets of lists of these lengths."""
    return pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


KIND = TaskKind(
    name="fill-mask",
    inputs=("text",),
    optional_inputs=(),
    default_model="google-bert/bert-base-cased",
    auto_model="AutoModelForMaskedLM",
    options=Options,
    open=FillMask,
    program_inputs=("input_ids", "attention_mask", "mask_position"),
    prepare=hook_encoder,
)
