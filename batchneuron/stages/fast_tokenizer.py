"""A model's tokenizer without transformers, whose import brings torch and takes seconds.

transformers opens it once, because what it makes of a folder is more than the tokenizer.json there says. The
outcome, all of it in the Rust library `tokenizers`, is kept in the user's cache; from there it opens in
milliseconds. A tokenizer written in Python is opened by transformers every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict, Unpack

from batchneuron.model import Model
from batchneuron.user_cache import find_entry, read_entry, write_entry

_FORMAT = "1"
# transformers: PreTrainedTokenizerBase.clean_up_tokenization
_CLEANING = (
    *((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'")),
    *((" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")),
)


class CallOptions(TypedDict, total=False):
    """What a call may say, as with transformers' tokenizers."""

    add_special_tokens: bool
    truncation: str
    max_length: int
    return_overflowing_tokens: bool
    return_token_type_ids: bool
    verbose: bool


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """What transformers knows of a tokenizer beside its backend, under the same names."""

    model_input_names: tuple[str, ...]
    model_max_length: int
    padding_side: str
    truncation_side: str
    pad_token_id: int | None
    pad_token_type_id: int
    cls_token_id: int | None
    unk_token_id: int | None
    mask_token_id: int | None
    mask_token: str | None
    cleans_up: bool
    """Whether spaces before punctuation go when tokens become text."""


class FastTokenizer:
    """As much of transformers' fast tokenizers as tasks use, under the same names."""

    is_fast = True

    def __init__(self, backend: Any, facts: TokenizerFacts, name_or_path: str) -> None:
        self.backend_tokenizer = backend
        self.name_or_path = name_or_path
        self._facts = facts

    def __getattr__(self, name: str) -> Any:
        """A fact: `pad_token_id`."""
        if name in TokenizerFacts.__dataclass_fields__:
            return getattr(self._facts, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, text: str, pair: str | None = None, /, **how: Unpack[CallOptions]) -> dict[str, Any]:
        """`input_ids` and, where the model takes them or they are asked for, `token_type_ids`.

        Lists of numbers; with `return_overflowing_tokens` lists of windows. An empty second text is one, as
        in transformers' batches; None is none.
        """
        backend = self.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        if "truncation" in how:
            backend.enable_truncation(
                how["max_length"], strategy=how["truncation"], direction=self._facts.truncation_side
            )
        inputs = (text,) if pair is None else (text, pair)
        encoding = backend.encode(*inputs, add_special_tokens=how.get("add_special_tokens", True))
        backend.no_truncation()
        windows = [encoding, *encoding.overflowing] if how.get("return_overflowing_tokens") else [encoding]
        made = {"input_ids": [window.ids for window in windows]}
        if how.get("return_token_type_ids", "token_type_ids" in self._facts.model_input_names):
            made["token_type_ids"] = [window.type_ids for window in windows]
        return (
            made if how.get("return_overflowing_tokens") else {name: rows[0] for name, rows in made.items()}
        )

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Tokens that it puts around a text, or around two."""
        return int(self.backend_tokenizer.num_special_tokens_to_add(pair))

    def get_vocab(self) -> dict[str, int]:
        """Every token and its number."""
        vocabulary: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return vocabulary

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The tokens of these numbers."""
        return [self.backend_tokenizer.id_to_token(number) for number in ids]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text that these tokens are of."""
        decoder = self.backend_tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text that these numbers are of."""
        text: str = self.backend_tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return reduce(
            lambda made, rule: made.replace(*rule), _CLEANING if self._facts.cleans_up else (), text
        )

    def batch_decode(self, rows: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """The text of each list of numbers."""
        return [self.decode(row, skip_special_tokens) for row in rows]


def open_tokenizer(model: Model) -> Any:
    """The model's tokenizer, from the cache where it can be; else transformers' own object."""
    versions = (f"{name} {version(name)}" for name in ("transformers", "tokenizers"))
    entry = find_entry("tokenizers", _FORMAT, model.digest, *versions)
    if not model.trust_remote_code:  # its Python code is what it is
        known = _open_kept(entry, model.folder)
        if known is not None:
            return known
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(
        model.folder, trust_remote_code=model.trust_remote_code, local_files_only=True
    )
    if not model.trust_remote_code and _is_portable(made):
        _keep(entry, made)
        return _open_kept(entry, model.folder) or made
    return made


def _is_portable(tokenizer: Any) -> bool:
    """Whether all that it does is in its Rust backend, without a step that calls Python."""
    from tokenizers.pre_tokenizers import PreTokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or getattr(tokenizer, "split_special_tokens", False):
        return False
    return type(backend.pre_tokenizer) is not PreTokenizer


def _keep(path: Path, tokenizer: Any) -> None:
    facts = TokenizerFacts(
        **{
            name: getattr(tokenizer, name)
            for name in TokenizerFacts.__dataclass_fields__
            if name not in ("model_input_names", "cleans_up")
        },
        model_input_names=tuple(tokenizer.model_input_names),
        # transformers leaves byte-pair tokenizers out, whatever their configuration says.
        cleans_up=bool(tokenizer.clean_up_tokenization_spaces)
        and type(tokenizer.backend_tokenizer.model).__name__ != "BPE",
    )
    write_entry(path, {"facts": asdict(facts), "backend": tokenizer.backend_tokenizer.to_str()})


def _open_kept(path: Path, folder: Path) -> FastTokenizer | None:
    """The tokenizer that is kept there; None for none, or for what is not whole."""
    from tokenizers import Tokenizer

    record = read_entry(path)
    try:
        facts = TokenizerFacts(**record["facts"])
        return FastTokenizer(Tokenizer.from_str(record["backend"]), facts, str(folder))
    except (ValueError, KeyError, TypeError):
        return None
