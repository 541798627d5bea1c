"""Text inputs: what a model is given of its tokenizer's inputs, and what it takes for padding.

Both as transformers' pipeline would have it for a text by itself, which is never padded.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from batchneuron.model import Model
from batchneuron.stages.tokenize import gives_types

CLASSIFIER = "AutoModelForSequenceClassification"
"""Of these, some look for the last token of a text: the last one that is not padding."""


def takes_types(config: Any, source: Model) -> bool:
    """Whether a model that accepts `token_type_ids` is given them.

    Where the configuration counts types, those of a text without any are zeros. GPT-2, XLM and others count
    none: they add the embedding of word 0, so that zeros are not nothing, and the tokenizer's word counts.
    """
    types = getattr(config, "type_vocab_size", None)
    return gives_types(source) if types is None else types > 0


def fit_padding(model: Any) -> int | None:
    """Let a classifier that looks for its last token find it; the token that padding has to be.

    transformers tells padding by its token alone. A model that names none, or none that it has, is taken not
    to be padded, and any token may end its texts: it gets one more token, a row of zeros, for padding.

    Returns:
        None: the model does not look for a padding token.
    """
    if "pad_token_id" not in inspect.unwrap(type(model).forward).__code__.co_names:
        return None
    config, tokens = model.config.get_text_config(), len(model.get_input_embeddings().weight)
    if config.pad_token_id is None or not 0 <= config.pad_token_id < tokens:
        model.resize_token_embeddings(tokens + 1, mean_resizing=False)
        with torch.no_grad():
            model.get_input_embeddings().weight[tokens] = 0
        config.pad_token_id = tokens
    return int(config.pad_token_id)
