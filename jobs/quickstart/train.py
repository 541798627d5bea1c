"""A small BERT classifier trained from scratch, on one CPU core, on the rows that are not shipped.

Two things make up for the small corpus. Besides its definition, a training synset also gives its
lemmas as a second, very short text of the same category: that is how the model learns what the
words of other definitions stand for. And the token embeddings do not start at random but as the
factors of the tokens' co-occurrences within those same training texts.
"""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from glosses import CATEGORIES, Gloss
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

VALIDATION_ROWS = 3_000
MAX_TOKENS = 128
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
EMBEDDING_SCALE = 0.1
PAD, MASK = SPECIAL.index("[PAD]"), SPECIAL.index("[MASK]")


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of; the defaults are what the shipped model was trained with."""

    epochs: int = 13
    seed: int = 17
    vocabulary: int = 11_500
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    intermediate: int = 512
    dropout: float = 0.15
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.06
    smoothing: float = 0.1
    word_dropout: float = 0.15
    batch_tokens: int = 2_048


Example = tuple[list[int], int]


def train_tokenizer(texts: list[str], vocabulary: int) -> BertTokenizerFast:
    """A lower-casing WordPiece tokenizer learned from ``texts`` alone."""
    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train_from_iterator(
        texts,
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        show_progress=False,
    )
    return BertTokenizerFast(vocab=wordpiece.get_vocab(), model_max_length=MAX_TOKENS)


def new_model(recipe: Recipe, vocabulary: int) -> BertForSequenceClassification:
    """The untrained classifier, its labels named after the categories."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.intermediate,
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=0.0,
        hidden_act="relu",
        max_position_embeddings=MAX_TOKENS,
        pad_token_id=PAD,
        id2label=dict(enumerate(CATEGORIES)),
        label2id={name: index for index, name in enumerate(CATEGORIES)},
    )
    return BertForSequenceClassification(config)


def encode(tokenizer: BertTokenizerFast, texts: list[str], rows: list[Gloss]) -> list[Example]:
    """Token ids and label of each text; ``rows`` says the category of each."""
    ids = tokenizer(texts, truncation=True)["input_ids"]
    labels = [CATEGORIES.index(row.category) for row in rows]
    return list(zip(ids, labels, strict=True))


def batches(
    examples: list[Example], tokens: int, shuffle: random.Random | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Padded batches of about ``tokens`` tokens, of texts of like length; shuffled if asked."""
    noise = shuffle.random if shuffle else lambda: 0.0
    order = sorted(examples, key=lambda example: len(example[0]) + noise(), reverse=True)
    chunks, start = [], 0
    while start < len(order):
        size = max(1, tokens // len(order[start][0]))
        chunks.append(order[start : start + size])
        start += size
    if shuffle:
        shuffle.shuffle(chunks)
    for chunk in chunks:
        width = len(chunk[0][0])
        padded = [ids + [PAD] * (width - len(ids)) for ids, _ in chunk]
        yield torch.tensor(padded), torch.tensor([label for _, label in chunk])


def word_vectors(
    defined: list[Example],
    named: list[Example],
    vocabulary: int,
    width: int,
) -> Tensor:
    """A first vector for each token: it lies near those of the tokens seen in like company.

    A synset's company is the set of its definition's tokens, its lemmas' tokens and its category.
    The vectors are the leading factors of the positive pointwise mutual information of pairs.
    """
    sets = [
        {*ids[1:-1], *lemma_ids[1:-1], vocabulary + label}
        for (ids, label), (lemma_ids, _) in zip(defined, named, strict=True)
    ]
    row_of = torch.tensor([row for row, company in enumerate(sets) for _ in company])
    column_of = torch.tensor([token for company in sets for token in company])
    shape = (len(sets), vocabulary + len(CATEGORIES))
    seen = torch.sparse_coo_tensor(
        torch.stack([row_of, column_of]), torch.ones(len(row_of)), shape, check_invariants=True
    )
    warnings.filterwarnings("ignore", "Sparse CSR tensor support")
    together = torch.sparse.mm(seen.t(), seen).to_dense().fill_diagonal_(0)
    alone = together.sum(dim=1)
    context = alone**0.75 / (alone**0.75).sum()
    ratio = together / (alone[:, None] * context[None, :] + 1e-9)
    information = torch.log(ratio + 1e-9).clamp_(min=0)
    factors, strengths, _ = torch.svd_lowrank(information, q=width, niter=4)
    vectors = nn.functional.normalize(factors * strengths.sqrt())[:vocabulary]
    vectors -= vectors.mean(dim=0)
    return vectors * (EMBEDDING_SCALE / vectors.std())


def drop_words(ids: Tensor, share: float) -> Tensor:
    """``ids`` with a random share of the ordinary tokens masked."""
    chosen = (torch.rand(ids.shape) < share) & (ids >= len(SPECIAL))
    return ids.masked_fill(chosen, MASK)


def accuracy(model: BertForSequenceClassification, examples: list[Example]) -> float:
    """The share of ``examples`` that the model labels right."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for ids, labels in batches(examples, 4_096):
            logits = model(input_ids=ids, attention_mask=(ids != PAD).long()).logits
            right += int((logits.argmax(dim=-1) == labels).sum())
    return right / len(examples)


def optimiser(
    model: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, its rate rising linearly and then falling to zero along a cosine."""
    decayed = [weight for weight in model.parameters() if weight.dim() > 1]
    others = [weight for weight in model.parameters() if weight.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    rising = max(1, round(recipe.warmup * steps))

    def scale(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, scale)


def fit(
    model: BertForSequenceClassification,
    training: list[Example],
    validation: list[Example],
    recipe: Recipe,
) -> None:
    """Train the model in place, printing its accuracy on the validation rows after each epoch."""
    shuffle = random.Random(recipe.seed)
    steps = recipe.epochs * len(list(batches(training, recipe.batch_tokens)))
    adamw, schedule = optimiser(model, recipe, steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
    started = time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        losses = []
        for ids, labels in batches(training, recipe.batch_tokens, shuffle):
            mask = (ids != PAD).long()
            dropped = drop_words(ids, recipe.word_dropout)
            loss = loss_of(model(input_ids=dropped, attention_mask=mask).logits, labels)
            adamw.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adamw.step()
            schedule.step()
            losses.append(loss.item())
        mean, share = sum(losses) / len(losses), accuracy(model, validation)
        spent = time.monotonic() - started
        print(f"epoch {epoch}: loss {mean:.3f}, validation {share:.4f}, {spent:.0f} s", flush=True)


def train(rows: list[Gloss], folder: Path, recipe: Recipe) -> None:
    """Tokenizer and classifier from the training rows, saved in ``folder``."""
    torch.manual_seed(recipe.seed)
    held, kept = rows[:VALIDATION_ROWS], rows[VALIDATION_ROWS:]
    definitions = [row.definition for row in kept]
    tokenizer = train_tokenizer(definitions, recipe.vocabulary)
    defined = encode(tokenizer, definitions, kept)
    named = encode(tokenizer, [", ".join(row.lemmas) for row in kept], kept)
    training = defined + named
    validation = encode(tokenizer, [row.definition for row in held], held)
    model = new_model(recipe, len(tokenizer))
    vectors = word_vectors(defined, named, len(tokenizer), recipe.hidden)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[len(SPECIAL) :] = vectors[len(SPECIAL) :]
    size = sum(weight.numel() for weight in model.parameters())
    print(f"{len(kept)} rows, {len(training)} texts, {size} parameters", flush=True)
    fit(model, training, validation, recipe)
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
