"""Answers of the question-answering pipeline of transformers 4.57, as a file for a test.

Run by hand, with that version: `python3.11 -m venv v457`,
`v457/bin/pip install torch "transformers==4.57.6"`, `v457/bin/python tests/parity/record_answers.py`.
The test builds the same models with its own version: weights follow from the parameters' names, and a
digest of them is part of the record. Where another processor's last bits could change which spans make the
cut, and so which of them read the same and are summed, nothing is recorded: such an answer has no one truth.
Imports nothing of this project.
"""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

ANSWERS = Path(__file__).parent / "answers.json"
SPECIALS = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
STEMS = ["alpha", "beta", "gamma", "delta", "zeta", "iota", "kappa", "lambda", "omega", "sigma"]
ODD = [
    "Éire",
    "naïve",
    "東京",
    "שלום",
    "🦜",
    "a-b",
    "x.",
    "don't",
    "Alpha",
    "BETA",
    "1,000",
    "\u200b",
    "e\u0301t",
]
SMALL = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 70,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "distilbert": {"vocab_size": 400, "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    | {"max_position_embeddings": 70},
    "roberta": {**SMALL, "type_vocab_size": 1},
}
BYTE_LEVEL = {"roberta"}
MODEL_LIMIT = 64
CASES: list[dict[str, Any]] = [
    {"max_seq_len": 48, "options": {}},
    {"max_seq_len": 64, "options": {"top_k": 3}},
    {"max_seq_len": 48, "options": {"handle_impossible_answer": True}},
    {"max_seq_len": 64, "options": {"handle_impossible_answer": True, "top_k": 3}},
    {"max_seq_len": 48, "options": {"align_to_words": False}},
    {"max_seq_len": 48, "options": {"align_to_words": False, "top_k": 3}},
    {"max_seq_len": 48, "options": {"doc_stride": 5, "max_answer_len": 4, "top_k": 3}},
    {"max_seq_len": 64, "options": {"doc_stride": 0, "max_answer_len": 40}},
]


def make_pairs() -> list[dict[str, str]]:
    """Questions, and contexts of one word to several windows."""
    chance = random.Random(5)
    spaces = [" ", " ", " ", "  ", "\n", " - "]

    def write(words: int) -> str:
        return "".join(chance.choice(STEMS * 3 + ODD) + chance.choice(spaces) for _ in range(words))

    sizes = [1, 1, 2, 3, 5, 8, 10, 12, 15, 18, 20, 25, 30, 35, 40, 60, 80, 100, 150, 200]
    # Short questions: that pipeline panics where a question leaves less room in a window than the stride.
    pairs = [
        {"question": " ".join(chance.choices(STEMS, k=chance.randint(1, 2))) + "?", "context": write(size)}
        for size in sizes
    ]
    pairs.append({"question": "alpha?", "context": "alpha beta alpha BETA Alpha beta " * 3})
    pairs.append({"question": "[SEP] beta", "context": "gamma\x00delta [SEP] omega [CLS] zeta"})
    return pairs


def build_model(folder: Path, kind: str) -> str:
    """Save a small model, the same with every version; give the digest of its weights."""
    import torch
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    config = AutoConfig.for_model(kind, pad_token_id=SPECIALS.index("[PAD]"), **CONFIGS[kind])
    model = AutoModelForQuestionAnswering.from_config(config).eval()
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            chance = np.random.default_rng(zlib.crc32(name.encode()))
            values = chance.normal(0.0, 0.4, tuple(parameter.shape)).astype(np.float32)
            parameter.copy_(torch.from_numpy(values))
            digest.update(name.encode() + values.tobytes())
    model.save_pretrained(folder)
    save_tokenizer(folder, kind)
    return digest.hexdigest()


def save_tokenizer(folder: Path, kind: str) -> None:
    """WordPiece as BERT has it, or byte level with two separators as RoBERTa has it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    if kind in BYTE_LEVEL:
        merges = [("a", "l"), ("al", "p"), ("Ġ", "b"), ("Ġb", "e"), ("t", "a"), ("m", "a"), ("m", "ma")]
        tokens = [
            *SPECIALS,
            *sorted(pre_tokenizers.ByteLevel.alphabet()),
            *("".join(pair) for pair in merges),
        ]
        tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        pair = "[CLS] $A [SEP] [SEP] $B [SEP]"
    else:
        letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,-'ïé"]
        tokens = [*SPECIALS, *STEMS, *letters, *(f"##{letter}" for letter in letters), "東", "ש"]
        tokenizer = Tokenizer(
            models.WordPiece({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]")
        )
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        pair = "[CLS] $A [SEP] $B:1 [SEP]:1"
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=pair,
        special_tokens=[(name, SPECIALS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    types = ["token_type_ids"] if kind == "bert" else []
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MODEL_LIMIT,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", *types, "attention_mask"],
    ).save_pretrained(folder)


TRIALS = 8
NOISE = 1e-5
"""Of the largest logit: ten times what processors differ by."""


def record(kind: str) -> dict[str, Any]:
    """The digest of the model's weights, and its answers to every pair in every case: lists, or None."""
    import torch
    from transformers import pipeline

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        digest = build_model(Path(folder), kind)
        answer = pipeline("question-answering", model=folder, device=-1)
        answers = []
        for case in CASES:
            options = {"max_seq_len": case["max_seq_len"], **case["options"]}
            exact, *noisy = (
                [_pack(answer(**pair, **options)) for pair in make_pairs()]
                for trial in range(TRIALS)
                if _set_noise(answer.model, trial) is None
            )
            answers.append([_agree(some) for some in zip(exact, *noisy, strict=True)])
    return {"weights": digest, "answers": answers}


def _set_noise(model: Any, trial: int) -> None:
    """Add noise to the model's logits from now on; none for trial 0."""
    import torch

    chance = torch.Generator().manual_seed(trial)
    exact = type(model).forward

    def forward(**inputs: Any) -> Any:
        outputs = exact(model, **inputs)
        for name in ("start_logits", "end_logits") if trial else ():
            logits = outputs[name]
            noise = (torch.rand(logits.shape, generator=chance) * 2 - 1) * NOISE * logits.abs().max()
            outputs[name] = logits + noise
        return outputs

    model.forward = forward


def _agree(answers: tuple[list[list[Any]], ...]) -> list[list[Any]] | None:
    """The first ones, where all trials gave the same texts at the same places."""
    exact, *others = ([(one[0], *one[2:]) for one in some] for some in answers)
    return answers[0] if all(other == exact for other in others) else None


def _pack(answers: Any) -> list[list[Any]]:
    answers = answers if isinstance(answers, list) else [answers]
    return [[one["answer"], round(one["score"], 8), one["start"], one["end"]] for one in answers]


def write_record(record_of: dict[str, dict[str, Any]], version: str) -> None:
    """One line for each model and case, so that a change can be read."""
    lines = [f'"transformers": {json.dumps(version)}']
    for kind, known in record_of.items():
        cases = ",\n".join(json.dumps(case, ensure_ascii=False) for case in known["answers"])
        lines.append(f'"{kind}": {{"weights": "{known["weights"]}", "answers": [\n{cases}]}}')
    ANSWERS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    import transformers

    write_record({kind: record(kind) for kind in CONFIGS}, transformers.__version__)
