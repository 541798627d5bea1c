"""What a job writes is what transformers says, row by row: real rows and a trained model."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from batchneuron.run import run_job
from tests.faults.harness import GLOSSES, MODEL, quickstart_spec, read_rows

ROWS = 200


@pytest.fixture(scope="module")
def texts():
    return pq.read_table(GLOSSES)["definition"].to_pylist()[:ROWS]


@pytest.fixture(scope="module")
def expected(texts):
    """Every label's score, likeliest first, of each text by itself."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(MODEL), device=-1)
    return [classify(text, top_k=None) for text in texts]


def test_labels_and_scores_are_those_of_the_pipeline(expected, tmp_path):
    run_job(quickstart_spec(tmp_path / "out", f"input.limit={ROWS}", "backend.workers=0"))

    rows = read_rows(tmp_path / "out")
    assert rows["label"].to_pylist() == [best["label"] for best, *_ in expected]
    scores = [best["score"] for best, *_ in expected]
    np.testing.assert_allclose(rows["score"].to_numpy(), scores, rtol=0, atol=1e-5)


def test_top_k_all_lists_every_label_as_the_pipeline_does(expected, tmp_path):
    run_job(
        quickstart_spec(
            tmp_path / "out",
            f"input.limit={ROWS}",
            "backend.workers=0",
            "options.top_k=all",
            "shapes.batch_size=32",
        )
    )

    for made, wanted in zip(read_rows(tmp_path / "out")["labels"].to_pylist(), expected, strict=True):
        scores = {one["label"]: one["score"] for one in wanted}
        assert {one["label"] for one in made} == scores.keys()
        assert made[0]["label"] == wanted[0]["label"]
        assert sorted(made, key=lambda one: -one["score"]) == made
        for one in made:
            assert one["score"] == pytest.approx(scores[one["label"]], abs=1e-5)


def test_embeddings_are_the_mean_of_the_token_vectors(texts, tmp_path):
    import torch
    from transformers import AutoModel, AutoTokenizer

    spec = quickstart_spec(
        tmp_path / "out",
        f"input.limit={ROWS}",
        "backend.workers=0",
        "options.pooling=mean",
        task="feature-extraction",
    )
    run_job(spec)

    tokenizer, model = AutoTokenizer.from_pretrained(MODEL), AutoModel.from_pretrained(MODEL).eval()
    with torch.inference_mode():
        wanted = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
            for text in texts
        ]
    made = np.stack(read_rows(tmp_path / "out")["embedding"].to_numpy(zero_copy_only=False))
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5)
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((made * wanted).sum(1) / lengths).min() > 0.999999
