"""Rebuild the quickstart's data set and model from WordNet.

The texts are the definitions of WordNet 3.0, as Debian packages it (``apt-get install
wordnet-base`` puts them under ``/usr/share/wordnet``); the label of each is the lexicographer
category that WordNet files it under, such as ``noun.animal``. To re-run everything, in order::

    python jobs/quickstart/build.py data --wordnet /usr/share/wordnet
    python jobs/quickstart/build.py train --wordnet /usr/share/wordnet
    python jobs/quickstart/build.py evaluate
    python jobs/quickstart/build.py baseline --wordnet /usr/share/wordnet

``data`` writes ``glosses.parquet``, the rows that are shipped. ``train`` trains on all the other
rows, which are not shipped but rebuilt from WordNet, and writes ``model/``. ``evaluate`` labels
the shipped rows with that model; ``baseline`` labels them with a linear bag-of-words classifier
(it alone needs scikit-learn).
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from glosses import split, write_parquet

HERE = Path(__file__).resolve().parent


def data(options: argparse.Namespace) -> None:
    """Write the shipped rows as Parquet."""
    shipped, rest = split(options.wordnet)
    write_parquet(shipped, options.glosses)
    print(f"{len(shipped)} rows in {options.glosses}; {len(rest)} rows left to train on")


def train(options: argparse.Namespace) -> None:
    """Train the tokenizer and the classifier on the rows that are not shipped."""
    import torch
    from train import Recipe
    from train import train as train_model

    torch.set_num_threads(options.threads)
    _, rest = split(options.wordnet)
    train_model(rest, options.model, Recipe(epochs=options.epochs or Recipe.epochs))


def read_shipped(path: Path) -> tuple[list[str], list[str]]:
    """The definitions and the categories of the shipped rows."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return table["definition"].to_pylist(), table["category"].to_pylist()


def classify(folder: Path, texts: list[str], batch: int = 256) -> list[str]:
    """The model's label of each text, by plain transformers, texts of like length together."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    labels = [""] * len(texts)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        encoded = tokenizer(
            [texts[index] for index in chosen], padding=True, truncation=True, return_tensors="pt"
        )
        with torch.inference_mode():
            winners = model(**encoded).logits.argmax(dim=-1).tolist()
        for index, winner in zip(chosen, winners, strict=True):
            labels[index] = model.config.id2label[winner]
    return labels


def evaluate(options: argparse.Namespace) -> None:
    """Print the model's accuracy on the shipped rows beside the majority class's."""
    import torch

    torch.set_num_threads(options.threads)
    texts, truth = read_shipped(options.glosses)
    labels = classify(options.model, texts)
    right = sum(label == true for label, true in zip(labels, truth, strict=True))
    majority, count = Counter(truth).most_common(1)[0]
    print(f"rows:               {len(truth)}")
    print(f"model accuracy:     {right / len(truth):.4f}")
    print(f"majority baseline:  {count / len(truth):.4f} (always {majority})")


def baseline(options: argparse.Namespace) -> None:
    """Print the accuracy on the shipped rows of a linear classifier of weighted word counts."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    _, rest = split(options.wordnet)
    linear = make_pipeline(TfidfVectorizer(sublinear_tf=True), LinearSVC(C=0.3))
    linear.fit([row.definition for row in rest], [row.category for row in rest])
    texts, truth = read_shipped(options.glosses)
    print(f"bag-of-words accuracy:  {linear.score(texts, truth):.4f}")


def arguments() -> argparse.Namespace:
    """The command line's sub-command and options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (data, train, evaluate, baseline):
        sub = commands.add_parser(command.__name__, help=command.__doc__)
        sub.set_defaults(run=command)
        sub.add_argument("--glosses", type=Path, default=HERE / "glosses.parquet")
        if command is not evaluate:
            sub.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
        if command in (train, evaluate):
            sub.add_argument("--model", type=Path, default=HERE / "model")
            sub.add_argument("--threads", type=int, default=1)
        if command is train:
            sub.add_argument("--epochs", type=int, help="for a quick trial (default: the recipe's)")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = arguments()
    chosen.run(chosen)
