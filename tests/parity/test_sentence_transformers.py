"""A sentence-transformers folder embeds as `SentenceTransformer.encode` does."""

import numpy as np
import pytest

from batchneuron.run import run_job
from tests.faults.harness import read_rows
from tests.tiny import save_bert

PROMPTS = {"query": "alpha beta ", "passage": "omicron "}
ROWS = 42  # of the fixture `rows_folder`


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def save_sentence_model(bert, tmp_path):
    """A function that saves a sentence-transformers folder over the tiny encoder, and gives its model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    def save(pooling, *, normalize=False, max_length=None, **settings):
        transformer = Transformer(str(bert), max_seq_length=max_length)
        modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling)]
        model = SentenceTransformer(
            modules=[*modules, *([Normalize()] if normalize else [])], device="cpu", **settings
        )
        model.save(str(tmp_path / "model"))
        return SentenceTransformer(str(tmp_path / "model"), device="cpu")

    return save


def embed(make_spec, tmp_path, *overrides, output=None):
    """The fixture's rows and their embeddings, by a job over the saved folder."""
    output = output or tmp_path / "out"
    model, path = f"model.id='{tmp_path / 'model'}'", f"output.path='{output}'"
    run_job(make_spec("task=feature-extraction", model, path, *overrides))
    rows = read_rows(output)
    return rows, np.stack(rows["embedding"].to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_pooling_and_normalising_follow_the_folder(
    pooling, normalize, save_sentence_model, make_spec, tmp_path
):
    model = save_sentence_model(pooling, normalize=normalize)

    rows, made = embed(make_spec, tmp_path)

    np.testing.assert_allclose(made, model.encode(rows["text"].to_pylist(), batch_size=1), rtol=0, atol=1e-5)


def test_the_default_prompt_and_a_named_one(save_sentence_model, make_spec, tmp_path):
    model = save_sentence_model("mean", prompts=PROMPTS, default_prompt_name="passage")

    rows, by_default = embed(make_spec, tmp_path)
    other = tmp_path / "as-query"
    _, as_query = embed(make_spec, tmp_path, "options.prompt_name=query", output=other)

    texts = rows["text"].to_pylist()
    np.testing.assert_allclose(by_default, model.encode(texts), rtol=0, atol=1e-5)
    np.testing.assert_allclose(as_query, model.encode(texts, prompt_name="query"), rtol=0, atol=1e-5)
    assert np.abs(by_default - as_query).max() > 0.01


def test_texts_are_cut_at_the_folders_own_length(save_sentence_model, make_spec, tmp_path):
    model = save_sentence_model("mean", max_length=8)

    rows, made = embed(make_spec, tmp_path, "shapes.sequence_length=auto")

    np.testing.assert_allclose(made, model.encode(rows["text"].to_pylist()), rtol=0, atol=1e-5)
    tokens = [len(model.tokenizer(text)["input_ids"]) for text in rows["text"].to_pylist()]
    assert rows["_truncated"].to_pylist() == [length > 8 for length in tokens]


def test_truncated_vectors_are_normalised_after_the_cut(save_sentence_model, make_spec, tmp_path):
    model = save_sentence_model("mean", normalize=True)

    rows, made = embed(make_spec, tmp_path, "options.truncate_dim=6")

    wanted = model.encode(rows["text"].to_pylist(), truncate_dim=6, normalize_embeddings=True)
    assert made.shape == (ROWS, 6)
    np.testing.assert_allclose(made, wanted, rtol=0, atol=1e-5)
