"""What is measured on: descriptions of Debian's packages, as texts (long) and as titles (short).

Fetched once from Debian's mirror: 63,000 English texts that people wrote, mean 93 MiniLM tokens.
"""

from __future__ import annotations

import lzma
import random
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from environments import ROOT

_URL = "http://deb.debian.org/debian/dists/bookworm/main/i18n/Translation-en.xz"
_QUESTIONS = ("What is {name}?", "What does {name} do?", "Which programs does {name} contain?")
_IMAGE_PIXELS = (320, 240)
LABELS = (
    *("games", "science", "networking", "graphics", "sound"),
    *("programming", "databases", "fonts", "documentation", "administration"),
)


def make_corpus(kind: str, rows: int) -> Path:
    """A Parquet file of so many rows: `text`; or `question`, `context`; or `image`."""
    path = ROOT / "corpora" / f"{kind}-{rows}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_make_images(rows) if kind == "images" else _make_texts(kind, rows), path)
    return path


def _make_texts(kind: str, rows: int) -> pa.Table:
    packages = list(_iter_descriptions(_fetch()))
    random.Random(37).shuffle(packages)
    texts = [f"{title}\n{text}" for _, title, text in packages]
    match kind:
        case "long":
            return pa.table({"text": texts[:rows]})
        case "short":
            return pa.table({"text": [title for _, title, _ in packages[:rows]]})
        case _:
            # A long context is four descriptions, one of which is of the package that is asked for.
            asked = [
                _QUESTIONS[index % 3].format(name=name) for index, (name, _, _) in enumerate(packages[:rows])
            ]
            contexts = ["\n".join([*texts[index * 4 % rows :][:3], texts[index]]) for index in range(rows)]
            return pa.table({"question": asked, "context": contexts})


def _fetch() -> str:
    path = ROOT / "corpora/Translation-en.xz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        urllib.request.urlretrieve(_URL, path)
    return lzma.decompress(path.read_bytes()).decode()


def _iter_descriptions(text: str) -> Iterator[tuple[str, str, str]]:
    """Package, title and text of each stanza."""
    for stanza in text.split("\n\n"):
        lines = stanza.splitlines()
        fields = dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith(" "))
        body = " ".join(
            "\n" if line.strip() == "." else line.strip() for line in lines if line.startswith(" ")
        )
        if fields.get("Description-en"):
            yield fields["Package"], fields["Description-en"], body


def _make_images(rows: int) -> pa.Table:
    """JPEG files of smooth random colours; a model does not care, and a decoder hardly does."""
    import io

    from PIL import Image

    generator = np.random.default_rng(37)
    images = []
    for _ in range(rows):
        pixels = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize(_IMAGE_PIXELS, Image.Resampling.BICUBIC).save(buffer, "JPEG")
        images.append(buffer.getvalue())
    return pa.table({"image": pa.array(images, pa.binary())})
