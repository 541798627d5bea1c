"""Models as facts on disk: found, read, digested, and refused where they could do harm."""

import json

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

from batchneuron.errors import ModelError, ModelUnavailable
from batchneuron.model import digest_files, read_sentence_config, resolve_model
from batchneuron.spec.sections import ModelSpec
from tests.hub_answers import answer, follow

NEW = "sentence_transformers.sentence_transformer.modules"


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def folder(tmp_path):
    """A model's folder as far as this module looks: nothing in it is ever loaded."""
    folder = tmp_path / "my-model"
    put(folder, "config.json", {"model_type": "bert", "max_position_embeddings": 48, "id2label": {"1": "b"}})
    put(folder, "model.safetensors", "weights")
    put(folder, "tokenizer.json", {})
    return folder


def resolve(path, **spec):
    return resolve_model(ModelSpec(id=str(path), **spec), "the/default")


def make_sentence(folder, types, pooling, transformer="", transformer_config=None, settings=None):
    """Turn a folder into a sentence-transformers one with these modules."""
    names = [kind.rpartition(".")[2] for kind in types]
    paths = [transformer if name == "Transformer" else f"{i}_{name}" for i, name in enumerate(names)]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    put(folder, "modules.json", modules)
    if pooling is not None:
        put(folder, f"{names.index('Pooling')}_Pooling/config.json", pooling)
    if transformer_config is not None:
        put(folder / transformer, "sentence_bert_config.json", transformer_config)
    if settings is not None:
        put(folder, "config_sentence_transformers.json", settings)
    return folder


def test_a_folder_is_resolved_where_it_is(folder):
    model = resolve(folder)

    assert (model.folder, model.commit, model.sentence) == (folder, None, None)
    assert model.id == str(folder)
    assert model.max_positions == 48
    assert not model.trust_remote_code


def test_without_an_id_the_task_has_a_default(folder):
    assert resolve_model(ModelSpec(), str(folder)).folder == folder


def test_labels_follow_the_ids(folder):
    put(folder, "config.json", {"id2label": {"10": "k", "0": "a", "1": "b", "2": "c"}})
    assert resolve(folder).labels == ("a", "b", "c", "LABEL_3")

    put(folder, "config.json", {"num_labels": 3})
    assert resolve(folder).labels == ("LABEL_0", "LABEL_1", "LABEL_2")

    put(folder, "config.json", {})
    assert resolve(folder).labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("name", ["hidden_size", "dim", "d_model", "n_embd"])
def test_the_hidden_size_has_many_names(folder, name):
    put(folder, "config.json", {"hidden_size": None, name: 16})

    assert resolve(folder).hidden_size == 16


def test_a_config_without_a_hidden_size_is_refused(folder):
    with pytest.raises(ModelError, match="no hidden size"):
        _ = resolve(folder).hidden_size


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "tf_model.h5", "model.onnx"])
def test_weights_that_can_run_code_are_no_weights(folder, weights):
    (folder / "model.safetensors").rename(folder / weights)

    with pytest.raises(ModelError, match=r"(?s)no safetensors weights.*save_pretrained"):
        resolve(folder)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError):
        resolve(tmp_path)


@pytest.mark.parametrize("config", ["{", "\udc80"])
def test_a_config_that_is_not_json_is_refused(folder, config):
    (folder / "config.json").write_bytes(config.encode("utf-8", "surrogateescape"))

    with pytest.raises(ModelError, match="not readable as JSON"):
        resolve(folder)


def test_a_missing_config_is_refused(folder):
    (folder / "config.json").unlink()

    with pytest.raises(ModelError, match="missing file"):
        resolve(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "merges.txt", "1_Pooling/config.json"]
)
def test_the_digest_follows_every_file_that_can_change_a_prediction(folder, name):
    put(folder, name, "before")
    before = digest_files(folder, with_code=False)

    path = put(folder, name, "after.")
    changed = digest_files(folder, with_code=False)
    path.rename(path.with_name(f"x{path.name}"))
    renamed = digest_files(folder, with_code=False)

    assert len({before, changed, renamed}) == 3


def test_the_digest_follows_the_folder_of_a_file(folder):
    path = put(folder, "1_Pooling/config.json", {})
    before = digest_files(folder, with_code=False)

    path.parent.rename(folder / "2_Pooling")

    assert digest_files(folder, with_code=False) != before


def test_the_digest_ignores_the_place_and_what_changes_nothing(folder, tmp_path):
    before = digest_files(folder, with_code=False)
    put(folder, "README.md", "about")
    put(folder, "modeling.py", "code")

    assert digest_files(folder.rename(tmp_path / "moved"), with_code=False) == before


def test_with_remote_code_the_code_counts(folder):
    put(folder, "modeling.py", "one")
    before = digest_files(folder, with_code=True)
    put(folder, "modeling.py", "two")

    assert digest_files(folder, with_code=True) != before


def test_a_hub_cache_link_is_digested_like_its_bytes(folder, tmp_path):
    from hashlib import sha256

    before = digest_files(folder, with_code=False)
    weights = folder / "model.safetensors"
    blob = tmp_path / sha256(weights.read_bytes()).hexdigest()
    weights.rename(blob)
    weights.symlink_to(blob)

    assert digest_files(folder, with_code=False) == before


def test_the_older_sentence_transformers_format(folder):
    types = [f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")]
    pooling = {
        "word_embedding_dimension": 16,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    make_sentence(folder, types, pooling, transformer_config={"max_seq_length": 33, "do_lower_case": True})

    sentence = resolve(folder).sentence

    assert sentence is not None
    assert (sentence.pooling, sentence.normalize) == ("cls", True)
    assert (sentence.max_seq_length, sentence.do_lower_case) == (33, True)
    assert (dict(sentence.prompts), sentence.default_prompt_name) == ({}, None)


def test_the_newer_sentence_transformers_format(folder):
    types = ["sentence_transformers.base.modules.transformer.Transformer", f"{NEW}.pooling.Pooling"]
    pooling = {"embedding_dimension": 16, "pooling_mode": "lasttoken", "include_prompt": True}
    settings = {"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"}
    make_sentence(folder, types, pooling, transformer_config={"module_output_name": "x"}, settings=settings)

    sentence = resolve(folder).sentence

    assert sentence is not None
    assert (sentence.pooling, sentence.normalize, sentence.max_seq_length) == ("last", False, None)
    assert sentence.prompts == {"query": "q: ", "document": ""}
    assert sentence.default_prompt_name == "query"


def test_the_oldest_format_keeps_the_transformer_in_a_folder_of_its_own(folder):
    (folder / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "0_Transformer" / name)
    types = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
    pooling = {"pooling_mode_max_tokens": True}
    make_sentence(folder, types, pooling, "0_Transformer", transformer_config={"max_seq_length": 12})

    model = resolve(folder)

    assert model.folder == folder / "0_Transformer"
    assert model.config["max_position_embeddings"] == 48
    assert model.sentence is not None
    assert (model.sentence.pooling, model.sentence.max_seq_length) == ("max", 12)


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["max"]}, "max"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
    ],
)
def test_pooling_modes(folder, pooling, mode):
    make_sentence(folder, [f"{NEW}.Pooling"], pooling)

    sentence = read_sentence_config(folder)

    assert sentence is not None
    assert sentence.pooling == mode


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "mean_sqrt_len_tokens"},
        {"pooling_mode": "mean", "include_prompt": False},
        {},
    ],
)
def test_pooling_that_is_not_supported_is_refused_and_not_guessed(folder, pooling):
    make_sentence(folder, [f"{NEW}.Pooling"], pooling)

    with pytest.raises(ModelError, match="not supported"):
        read_sentence_config(folder)


@pytest.mark.parametrize("name", ["Dense", "WeightedLayerPooling", "StaticEmbedding"])
def test_a_module_that_is_not_supported_is_refused_by_name(folder, name):
    types = ["sentence_transformers.models.Transformer", f"sentence_transformers.models.{name}"]
    make_sentence(folder, types, None)

    with pytest.raises(ModelError, match=f"{name} is not supported"):
        resolve(folder)


def test_code_of_a_repository_needs_the_flag_of_the_command(folder):
    with pytest.raises(ModelError, match=r"(?s)run code.*--trust-remote-code"):
        resolve(folder, trust_remote_code=True)

    spec = ModelSpec(id=str(folder), trust_remote_code=True)
    assert resolve_model(spec, "", allow_remote_code=True).trust_remote_code
    assert not resolve_model(ModelSpec(id=str(folder)), "", allow_remote_code=True).trust_remote_code


@pytest.mark.parametrize(
    ("name", "auto_map"),
    [
        ("config.json", {"AutoConfig": "own.Own", "AutoModel": "some-org/code--modeling.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["some-org/code--tokens.Slow", None]}),
        ("preprocessor_config.json", {"AutoImageProcessor": "some-org/code--images.Own"}),
    ],
)
def test_code_of_another_repository_is_refused_by_its_name(folder, name, auto_map):
    put(folder, name, {"auto_map": auto_map})
    spec = ModelSpec(id=str(folder), trust_remote_code=True)

    with pytest.raises(
        ModelError, match=rf"(?s){name}: .*'some-org/code'.*take 'some-org/code--' out"
    ) as told:
        resolve_model(spec, "", allow_remote_code=True)

    assert told.value.exit_code == 78
    assert not resolve(folder).trust_remote_code, "without it nothing of it is run"


@pytest.mark.case(47)
@pytest.mark.parametrize("name", ["some-org/some-model", "some-model"])
def test_a_hub_id_without_a_network_says_how_to_go_on(name):
    with pytest.raises(ModelError, match=f"(?s)cannot be reached.*hf download {name}"):
        resolve(name)


@pytest.mark.case(47)
@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (follow(LocalEntryNotFoundError("not cached"), answer(429)), ModelUnavailable, "run it again"),
        (follow(LocalEntryNotFoundError("not cached"), answer(503)), ModelUnavailable, "run it again"),
        (
            follow(LocalEntryNotFoundError("not cached"), HTTPError("no route")),
            ModelUnavailable,
            "run it again",
        ),
        (HTTPError("Server disconnected without sending a response."), ModelUnavailable, "disconnected"),
        (answer(500), ModelUnavailable, "500 for https://hub"),
        (answer(400), ModelError, "400 for https://hub"),
        (
            OSError(28, "No space left on device"),
            ModelError,
            "cannot be fetched from the hub: .*No space left",
        ),
    ],
)
def test_only_a_hub_that_gives_no_answer_is_worth_asking_again(monkeypatch, error, kind, told):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=f"(?s)org/name: .*{told}") as caught:
        resolve("org/name")
    assert type(caught.value) is kind
    assert caught.value.exit_code == (75 if kind is ModelUnavailable else 78)


@pytest.mark.parametrize("name", ["org/my model", "org/-x", "org/x@main"])
def test_what_cannot_be_a_hub_id_is_an_error_with_a_hint(name):
    with pytest.raises(ModelError, match="hub id"):
        resolve(name)


def test_a_missing_folder_names_the_nearest(folder):
    with pytest.raises(ModelError, match=f"did you mean '{folder}'"):
        resolve(folder.with_name("my-modle"))


def test_a_missing_folder_with_nothing_like_it(tmp_path):
    with pytest.raises(ModelError, match="no such folder"):
        resolve(tmp_path / "nowhere" / "deep" / "zzz")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_is_told_to_be_one(folder, name, monkeypatch):
    with pytest.raises(ModelError, match=r"(?s)is a file.*give the folder that it is in"):
        resolve(folder / name)
    monkeypatch.chdir(folder)
    with pytest.raises(ModelError, match="is a file"):
        resolve(name)


def test_what_is_there_and_no_folder_is_not_its_own_suggestion(folder):
    (folder / "gone").symlink_to(folder / "nowhere")

    with pytest.raises(ModelError, match="no such folder") as caught:
        resolve(folder / "gone")
    assert "did you mean" not in str(caught.value)


def test_a_relative_folder_and_the_home_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))

    for name in ("my-model", "./my-model", "~/my-model"):
        assert resolve(name).folder == folder
    with pytest.raises(ModelError, match="did you mean 'my-model'"):
        resolve("./my-modle")
