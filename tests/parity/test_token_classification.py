"""Ten architectures, three kinds of tokenizer, random weights: a job's entities are those of the pipeline."""

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import SpecError
from batchneuron.run import run_job
from tests import tiny
from tests.faults.harness import read_rows
from tests.parity.test_architectures import ARCHITECTURES, PAD_IS_ONE, UNTYPED

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
LIMIT = 48
STRATEGIES = ["none", "simple", "first", "average", "max"]
WORDS = [*tiny.WORDS, "abba", "zz1", "Éire", "naïve", "東京", "שלום", "🦜", "a-b", "x.", "don't", "[SEP]"]


def make_texts(rows, longest, seed=0):
    chance = random.Random(seed)
    spaces = [" ", " ", " ", "  ", "\n", ""]
    return [
        "".join(chance.choice(WORDS) + chance.choice(spaces) for _ in range(chance.randint(1, longest)))
        for _ in range(rows)
    ]


TEXTS = ["", " \t\n", "a", "🦜", "\x00", "alpha\x00beta gamma", "ל שלום alpha", *make_texts(30, 12)]
LONG_TEXTS = ["", "beta", *make_texts(8, 120, seed=1)]


def save_model(folder: Path, kind: str, monkeypatch, save_tokenizer=None) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForTokenClassification

    specials = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"] if kind in PAD_IS_ONE else list(tiny.SPECIALS)
    monkeypatch.setattr(tiny, "SPECIALS", specials)
    ids = {name: specials.index(f"[{name.upper()}]") for name in ("pad", "cls", "sep")}
    config = AutoConfig.for_model(
        kind,
        vocab_size=384,
        pad_token_id=ids["pad"],
        bos_token_id=ids["cls"],
        eos_token_id=ids["sep"],
        cls_token_id=ids["cls"],
        sep_token_id=ids["sep"],
        initializer_range=0.4,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
        **ARCHITECTURES[kind],
    )
    torch.manual_seed(7)
    AutoModelForTokenClassification.from_config(config).eval().save_pretrained(folder)
    (save_tokenizer or save_wordpiece)(folder)
    if kind in UNTYPED:
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        path.write_text(json.dumps({**settings, "model_input_names": ["input_ids", "attention_mask"]}))
    return folder


def save_fast_tokenizer(folder: Path, tokenizer) -> None:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tiny.SPECIALS.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=LIMIT,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def save_wordpiece(folder: Path) -> None:
    """The tiny tokenizer, with the decoder that BERT's has."""
    tiny.save_tokenizer(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["decoder"] = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def save_byte_level(folder: Path) -> None:
    """Every byte is a token, and some pairs of them, as in RoBERTa."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    merges = [("a", "l"), ("al", "p"), ("Ġ", "b"), ("Ġb", "e"), ("t", "a")]
    tokens = [
        *tiny.SPECIALS,
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *("".join(pair) for pair in merges),
    ]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    save_fast_tokenizer(folder, tokenizer)


def save_metaspace(folder: Path) -> None:
    """A unigram tokenizer that marks spaces, as in XLM-RoBERTa."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = [f"▁{word}" for word in tiny.WORDS] + [*tiny.WORDS, "▁", *"abcdefghijklmnopqrstuvwxyzÉï.-'"]
    vocabulary = [(name, 0.0) for name in tiny.SPECIALS] + [
        (piece, -float(len(piece) < 3)) for piece in pieces
    ]
    tokenizer = Tokenizer(
        models.Unigram(vocabulary, unk_id=tiny.SPECIALS.index("[UNK]"), byte_fallback=False)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    save_fast_tokenizer(folder, tokenizer)


def run(make_spec, output, rows, *overrides):
    """The entities of each row, by a job."""
    pq.write_table(pa.table({"text": rows}), output.parent / f"{output.name}.parquet")
    run_job(
        make_spec(
            "task=token-classification",
            f"input.path='{output.parent / f'{output.name}.parquet'}'",
            f"shapes={{batch_size: 8, sequence_length: [16, 32, {LIMIT}]}}",
            f"output.path='{output}'",
            *overrides,
        )
    )
    return read_rows(output)


def require_equal(made, expected):
    """The same entities in every row."""
    for row, (found, wanted) in enumerate(zip(made, expected, strict=True)):
        scores = [one.pop("score") for one in found]
        assert scores == pytest.approx([float(one["score"]) for one in wanted], abs=1e-5), row
        assert found == [{key: one[key] for key in one if key != "score"} for one in wanted], row


def open_pipeline(model):
    from transformers import pipeline

    return pipeline("token-classification", model=str(model), device=-1)


def compare(make_spec, output, tag, strategy, *overrides, texts=TEXTS + LONG_TEXTS, **options):
    """Every row of a job has the entities that the pipeline finds in it."""
    made = run(
        make_spec,
        output,
        texts,
        f"model.id='{tag.model.name_or_path}'",
        f"options.aggregation_strategy={strategy}",
        *overrides,
    )
    # A list of one, because the pipeline takes no empty text by itself.
    expected = [tag([text], aggregation_strategy=strategy, **options)[0] for text in texts]
    require_equal(made["entities"].to_pylist(), expected)
    assert sum(map(len, expected)) > 20, "hardly an entity: the test shows nothing"
    return made


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_strategy(kind, make_spec, tmp_path, monkeypatch):
    tag = open_pipeline(save_model(tmp_path / "model", kind, monkeypatch))

    for strategy in STRATEGIES:
        made = compare(make_spec, tmp_path / strategy, tag, strategy)
        assert any(made["_truncated"].to_pylist())


@pytest.mark.parametrize("save_tokenizer", [save_byte_level, save_metaspace])
def test_tokenizers_that_do_not_mark_what_goes_on_with_a_word(
    save_tokenizer, make_spec, tmp_path, monkeypatch
):
    tag = open_pipeline(save_model(tmp_path / "model", "roberta", monkeypatch, save_tokenizer))

    for strategy in STRATEGIES:
        compare(make_spec, tmp_path / strategy, tag, strategy)


@pytest.mark.parametrize("save_tokenizer", [save_wordpiece, save_byte_level])
@pytest.mark.parametrize("stride", [0, 7, 30])
def test_long_texts_in_windows(save_tokenizer, stride, make_spec, tmp_path, monkeypatch):
    tag = open_pipeline(save_model(tmp_path / "model", "bert", monkeypatch, save_tokenizer))

    for strategy in STRATEGIES[1:]:
        overrides = ("shapes.overflow=split", f"options.stride={stride}")
        made = compare(make_spec, tmp_path / strategy, tag, strategy, *overrides, stride=stride)
        assert not any(made["_truncated"].to_pylist())


@pytest.mark.parametrize("save_tokenizer", [save_wordpiece, save_byte_level, save_metaspace])
def test_lists_of_words(save_tokenizer, make_spec, tmp_path, monkeypatch):
    tag = open_pipeline(save_model(tmp_path / "model", "bert", monkeypatch, save_tokenizer))
    texts = [text.replace("\n", " ") for text in TEXTS]

    for strategy in ["none", "simple", "max"]:
        made = run(
            make_spec,
            tmp_path / strategy,
            texts,
            f"model.id='{tag.model.name_or_path}'",
            f"options={{aggregation_strategy: {strategy}, is_split_into_words: true}}",
        )
        settings = {"is_split_into_words": True, "aggregation_strategy": strategy}
        require_equal(made["entities"].to_pylist(), [tag([text.split(" ")], **settings)[0] for text in texts])


def test_labels_to_ignore(make_spec, tmp_path, monkeypatch):
    tag = open_pipeline(save_model(tmp_path / "model", "bert", monkeypatch))

    for strategy in ["none", "simple"]:
        for ignored in [[], ["O", "PER", "B-LOC"]]:
            output = tmp_path / f"{strategy}-{len(ignored)}"
            compare(
                make_spec, output, tag, strategy, f"options.ignore_labels={ignored}", ignore_labels=ignored
            )


def test_a_column_of_word_lists_is_words(make_spec, tmp_path, monkeypatch):
    model = save_model(tmp_path / "model", "bert", monkeypatch)
    tag = open_pipeline(model)
    rows = [["alpha", "beta", "Éire"], ["東京"], ["gamma", "delta", "zeta", "eta"]]
    options = "options={aggregation_strategy: first, is_split_into_words: true}"

    made = run(make_spec, tmp_path / "out", rows, f"model.id='{model}'", options)

    expected = [tag([words], is_split_into_words=True, aggregation_strategy="first")[0] for words in rows]
    require_equal(made["entities"].to_pylist(), expected)
    with pytest.raises(SpecError, match="a column of lists, not of texts"):
        run(make_spec, tmp_path / "texts", rows, f"model.id='{model}'")
