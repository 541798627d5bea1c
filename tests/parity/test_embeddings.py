"""Encoders of thirteen architectures, random weights: token vectors and embeddings are transformers' own."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron import pipeline
from batchneuron.run import run_job
from tests import tiny
from tests.faults.harness import read_rows
from tests.parity.test_architectures import ALL, save_model

TEXTS = ["", " \t\n", "\x00", "🦜 שלום 東京 é", *tiny.make_texts(20, longest=20)]
POOLINGS = {
    "mean": lambda vectors: vectors.mean(0),
    "cls": lambda vectors: vectors[0],
    "max": lambda vectors: vectors.max(0),
    "last": lambda vectors: vectors[-1],
}


def read_token_vectors(model, texts):
    """transformers' vectors of each text, one text at a time: float32 [tokens, hidden] each."""
    from transformers import pipeline as transformers_pipeline

    extract = transformers_pipeline("feature-extraction", model=str(model), device=-1)
    return [np.array(extract([text])[0][0], np.float32) for text in texts]


def require_close(made, expected):
    """Equal to 1e-5 of the largest number: MobileBERT's grow beyond a hundred thousand."""
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("kind", ALL)
def test_an_architecture_embeds_as_transformers_does(kind, make_spec, tmp_path, monkeypatch):
    model = save_model(tmp_path / "model", kind, monkeypatch)
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "rows.parquet")
    expected = read_token_vectors(model, TEXTS)

    for pooling, pool in POOLINGS.items():
        output = tmp_path / pooling
        run_job(
            make_spec(
                "task=feature-extraction",
                f"model.id='{model}'",
                f"input.path='{tmp_path / 'rows.parquet'}'",
                f"options.pooling={pooling}",
                "shapes={batch_size: 8, sequence_length: [16, 48]}",
                f"output.path='{output}'",
            )
        )
        made = np.stack(read_rows(output)["embedding"].to_numpy())
        require_close(made, np.stack([pool(one) for one in expected]))


@pytest.mark.parametrize("kind", ALL)
def test_the_interactive_api_gives_the_token_vectors(kind, tmp_path, monkeypatch):
    model = save_model(tmp_path / "model", kind, monkeypatch)

    extract = pipeline(
        "feature-extraction", model=str(model), input_shapes={"batch_size": 3, "sequence_length": 48}
    )
    made = extract(TEXTS)

    for one, expected in zip(made, read_token_vectors(model, TEXTS), strict=True):
        require_close(np.array(one[0], np.float32), expected)
