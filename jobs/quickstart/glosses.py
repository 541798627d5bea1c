"""WordNet's definitions and their lexicographer categories, split into two disjoint sets.

WordNet's ``data.*`` files hold one synset a line: its byte offset, the number of the
lexicographer file it was written in (the *category* here, such as ``noun.animal``), its lemmas,
its pointers and, after a ``|``, the gloss: a definition, then perhaps quoted examples.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: Lexicographer files by number (WordNet's lexnames(5)).
CATEGORIES = (
    *("adj.all", "adj.pert", "adv.all", "noun.Tops", "noun.act", "noun.animal", "noun.artifact"),
    *("noun.attribute", "noun.body", "noun.cognition", "noun.communication", "noun.event"),
    *("noun.feeling", "noun.food", "noun.group", "noun.location", "noun.motive", "noun.object"),
    *("noun.person", "noun.phenomenon", "noun.plant", "noun.possession", "noun.process"),
    *("noun.quantity", "noun.relation", "noun.shape", "noun.state", "noun.substance"),
    *("noun.time", "verb.body", "verb.change", "verb.cognition", "verb.communication"),
    *("verb.competition", "verb.consumption", "verb.contact", "verb.creation", "verb.emotion"),
    *("verb.motion", "verb.perception", "verb.possession", "verb.social", "verb.stative"),
    *("verb.weather", "adj.ppl"),
)
PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
SHIPPED_ROWS = 23_517
ROW_GROUP_ROWS = 5_003

_EXAMPLES = re.compile(r'(?:[;,] (?:as in )?e\.g\.?)?[;:,.]?\s*(?<![\w(])"')
_ADJECTIVE_MARKER = re.compile(r"\((?:a|p|ip)\)$")


@dataclass(frozen=True)
class Gloss:
    """One synset: its id (``00021939-n``), its lemmas, its definition and its category."""

    synset: str
    lemmas: tuple[str, ...]
    definition: str
    category: str

    @property
    def key(self) -> str:
        """The definition as compared for duplicates: its words alone, in lower case."""
        return " ".join(re.findall(r"\w+", self.definition.lower()))

    @property
    def rank(self) -> str:
        """A hash of the key: the order in which rows are dealt to the shipped set."""
        return hashlib.sha256(self.key.encode()).hexdigest()


def cut_examples(gloss: str) -> str:
    """The definition alone: everything before the first quoted example."""
    return _EXAMPLES.split(gloss.strip(), maxsplit=1)[0].strip(' ;:,"')


def parse_line(line: str, letter: str) -> Gloss:
    """One line of a ``data.*`` file, of the part of speech that ``letter`` stands for."""
    fields, _, gloss = line.partition(" | ")
    offset, category, _, count, *words = fields.split(" ")
    lemmas = (_ADJECTIVE_MARKER.sub("", word) for word in words[: 2 * int(count, 16) : 2])
    return Gloss(
        synset=f"{offset}-{letter}",
        lemmas=tuple(lemma.replace("_", " ") for lemma in lemmas),
        definition=cut_examples(gloss),
        category=CATEGORIES[int(category)],
    )


def read_wordnet(folder: Path) -> Iterator[Gloss]:
    """Every synset of the four ``data.*`` files; the licence lines at their top are skipped."""
    for part, letter in PARTS.items():
        with (folder / f"data.{part}").open(encoding="utf-8") as lines:
            yield from (parse_line(line, letter) for line in lines if not line.startswith("  "))


def deduplicate(glosses: Iterator[Gloss]) -> list[Gloss]:
    """One row a definition, in hash order.

    Of the synsets that share a definition and a category the first is kept; a definition that
    occurs under several categories has no single right answer and is dropped altogether.
    """
    by_key: dict[str, list[Gloss]] = {}
    for gloss in glosses:
        if gloss.key:
            by_key.setdefault(gloss.key, []).append(gloss)
    agreed = [same[0] for same in by_key.values() if len({g.category for g in same}) == 1]
    return sorted(agreed, key=lambda gloss: gloss.rank)


def split(wordnet: Path) -> tuple[list[Gloss], list[Gloss]]:
    """The rows to ship (the first by hash) and, with no definition in common, those to train on."""
    rows = deduplicate(read_wordnet(wordnet))
    return rows[:SHIPPED_ROWS], rows[SHIPPED_ROWS:]


def write_parquet(glosses: list[Gloss], path: Path) -> None:
    """The shipped rows as Parquet; the last row group is shorter than the others."""
    columns = {
        "synset": [gloss.synset for gloss in glosses],
        "lemma": [gloss.lemmas[0] for gloss in glosses],
        "definition": [gloss.definition for gloss in glosses],
        "category": [gloss.category for gloss in glosses],
    }
    table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
    best = {"compression": "zstd", "compression_level": 19}
    pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS, **best)
