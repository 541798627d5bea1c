"""Small models and data that tests make for themselves: seeded, saved in a temporary folder, no hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

WORDS = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_POSITIONS = 48


def save_tokenizer(folder: Path) -> None:
    """A WordPiece tokenizer that knows the words, single letters and digits."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789.,é")
    vocabulary = [*SPECIALS, *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_POSITIONS,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)


def save_bert(folder: Path, *, labels: Sequence[str] = (), seed: int = 0, **config: Any) -> Path:
    """A two-layer BERT with random weights: a classifier where labels are given, else an encoder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    settings = BertConfig(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.5,
        **(
            {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
            if labels
            else {}
        ),
        **config,
    )
    model = (BertForSequenceClassification if labels else BertModel)(settings)
    model.eval().save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def make_texts(rows: int, *, seed: int = 0, longest: int = 30) -> list[str]:
    """Texts of one to `longest` words."""
    import random

    random.seed(seed)
    return [" ".join(random.choices(WORDS, k=random.randint(1, longest))) for _ in range(rows)]


def write_rows(folder: Path, counts: Sequence[int] = (37, 0, 5), *, seed: int = 0) -> Path:
    """A folder of Parquet files with `id`, `text` and `note`; by default 37, 0 and 5 rows."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = make_texts(sum(counts), seed=seed)
    start = 0
    for number, count in enumerate(counts):
        table = pa.table(
            {
                "id": pa.array(range(start, start + count), pa.int64()),
                "text": pa.array(texts[start : start + count], pa.string()),
                "note": pa.array([f"note {i}" for i in range(start, start + count)], pa.string()),
            }
        )
        pq.write_table(table, folder / f"rows-{number}.parquet", row_group_size=11)
        start += count
    return folder
