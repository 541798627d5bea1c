"""The model as facts on disk: which files, at which commit, and what their configuration says.

Resolves a hub id or a folder once, in the parent; workers get the folder and never ask a hub. Reads
JSON only: no torch, no transformers, and weights are hashed, never loaded.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from batchneuron.errors import ModelError, ModelForbidden, ModelUnavailable
from batchneuron.hub_silence import is_silence
from batchneuron.spec.sections import ModelSpec

# Weights are read from safetensors alone: unpickling a checkpoint runs whatever its author put there
# (CVE-2025-32434 got round even weights_only=True).
_WEIGHTS = "*.safetensors"
_READ_FROM_HUB = ("*.json", "*.txt", "*.model", "*.jinja", _WEIGHTS)
_CODE = "*.py"
_OTHER_ENGINES = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")
_BLOB = re.compile(r"[0-9a-f]{64}")

# These count positions from pad_token_id + 1, so that many of their positions cannot be used
# (transformers: create_position_ids_from_input_ids).
_OFFSET_POSITIONS = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer"}
    | {"data2vec-text", "esm", "ibert", "xmod", "luke", "mluke"}
)
# These have another word for max_position_embeddings (transformers: attribute_map).
_POSITIONS = {
    **dict.fromkeys(
        ("gpt2", "gpt-sw3", "openai-gpt", "ctrl", "codegen", "gptj", "gpt_bigcode"), "n_positions"
    ),
    **{"dbrx": "max_seq_len", "rwkv": "context_length"},
    **dict.fromkeys(("bailing_hybrid", "kimi_linear"), "model_max_length"),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is on this disk."""

    id: str
    folder: Path
    """Holds config.json, the weights and the tokenizer."""
    commit: str | None
    """Hub commit, 40 hex digits; None for a folder of the user's own."""
    digest: str
    """SHA-256 over the digests of all files that can change a prediction."""
    config: Mapping[str, Any]
    trust_remote_code: bool
    sentence: SentenceConfig | None
    """What a sentence-transformers folder adds; None for a plain one."""

    @property
    def root(self) -> Path:
        """The whole folder; that of the weights may be a part of it (sentence-transformers)."""
        is_part = self.sentence is not None and not (self.folder / "modules.json").is_file()
        return self.folder.parent if is_part else self.folder

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names by id, as `config.id2label` gives them; LABEL_0 … where it does not."""
        names = {int(key): str(name) for key, name in self.config.get("id2label", {}).items()}
        count = len(names) or int(self.config.get("num_labels", 2))
        return tuple(names.get(i, f"LABEL_{i}") for i in range(count))

    @property
    def hidden_size(self) -> int:
        """Numbers in a token's vector; architectures name it differently.

        Raises:
            ModelError: the configuration does not say.
        """
        sizes = (self.config.get(name) for name in ("hidden_size", "dim", "d_model", "n_embd", "emb_dim"))
        size = next((size for size in sizes if isinstance(size, int)), None)
        if size is None:
            raise ModelError("the configuration names no hidden size", str(self.folder / "config.json"))
        return size

    @property
    def weights_bytes(self) -> int:
        """Size of the weights' files."""
        return sum(path.stat().st_size for path in self.folder.glob(_WEIGHTS))

    @property
    def max_positions(self) -> int | None:
        """Tokens the position embeddings reach; None where the architecture has no such limit."""
        kind = self.config.get("model_type")
        names = ("max_position_embeddings", _POSITIONS.get(str(kind), ""))
        positions = next((self.config[name] for name in names if name in self.config), None)
        if not isinstance(positions, int) or positions <= 0:
            return None
        if kind in _OFFSET_POSITIONS:
            return positions - int(self.config.get("pad_token_id") or 0) - 1
        return positions


@dataclass(frozen=True, slots=True)
class SentenceConfig:
    """The parts of a sentence-transformers folder that change embeddings."""

    pooling: str
    normalize: bool
    max_seq_length: int | None
    do_lower_case: bool
    prompts: Mapping[str, str]
    default_prompt_name: str | None


def resolve_model(spec: ModelSpec, default_id: str, *, allow_remote_code: bool = False) -> Model:
    """The model a spec names, downloaded if need be.

    Args:
        spec: the `model` section.
        default_id: the task's default model, for a spec without `model.id`.
        allow_remote_code: the user's flag; the spec alone never runs code from a repository.

    Raises:
        ModelError: not found, not readable, without safetensors weights, or with code that is elsewhere.
        ModelForbidden: gated or private.
        ModelUnavailable: not in the cache, and the hub does not answer.
    """
    if spec.trust_remote_code and not allow_remote_code:
        raise ModelError(
            "the spec asks to run code from the model's repository",
            "model.trust_remote_code",
            "read that code, then add --trust-remote-code to the command",
        )
    name = spec.id or default_id
    if (local := Path(name).expanduser()).is_dir():
        folder, commit = local.resolve(), None
    elif local.is_file():
        raise ModelError("is a file", str(local.absolute()), "give the folder that it is in")
    else:
        folder = _download(name, spec.revision, with_code=spec.trust_remote_code)
        commit = folder.name if re.fullmatch(r"[0-9a-f]{40}", folder.name) else spec.revision
    if spec.trust_remote_code:
        _require_own_code(folder)
    sentence = read_sentence_config(folder)
    weights_folder = _transformer_folder(folder)
    if not any(weights_folder.glob(_WEIGHTS)):
        raise ModelError(
            "no safetensors weights",
            str(weights_folder),
            "other weight files can run code when loaded; convert them with "
            "`AutoModel.from_pretrained(…).save_pretrained(folder)`",
        )
    config = _read_json(weights_folder / "config.json")
    digest = digest_files(folder, with_code=spec.trust_remote_code)
    return Model(name, weights_folder, commit, digest, config, spec.trust_remote_code, sentence)


def list_files(folder: Path, *, with_code: bool) -> list[Path]:
    """Every file of a model that can change a prediction, in order."""
    patterns = _list_patterns(with_code=with_code)
    return sorted({path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()})


def digest_files(folder: Path, *, with_code: bool) -> str:
    """SHA-256 over the names and digests of every file that can change a prediction, 64 hex digits."""
    total = hashlib.sha256()
    for path in list_files(folder, with_code=with_code):
        total.update(f"{path.relative_to(folder).as_posix()}\0{_digest_file(path)}\n".encode())
    return total.hexdigest()


def read_sentence_config(folder: Path) -> SentenceConfig | None:
    """What the folder's `modules.json` says, None where there is none.

    Raises:
        ModelError: the folder asks for a module that is not supported.
    """
    if not (folder / "modules.json").is_file():
        return None
    modules: list[dict[str, str]] = _read_json(folder / "modules.json")
    kinds = {module["type"].rpartition(".")[2]: _module_folder(folder, module) for module in modules}
    unknown = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise ModelError(f"sentence-transformers module {unknown[0]} is not supported", str(folder))
    pooling = _read_pooling(kinds["Pooling"] / "config.json") if "Pooling" in kinds else "mean"
    # Older folders name the file after the architecture: sentence_roberta_config.json, …
    named = sorted(_transformer_folder(folder).glob("sentence_*_config.json"))
    transformer = _read_optional(named[0]) if named else {}
    settings = _read_optional(folder / "config_sentence_transformers.json")
    return SentenceConfig(
        pooling=pooling,
        normalize="Normalize" in kinds,
        max_seq_length=transformer.get("max_seq_length"),
        do_lower_case=bool(transformer.get("do_lower_case", False)),
        prompts={str(key): str(text) for key, text in settings.get("prompts", {}).items()},
        default_prompt_name=settings.get("default_prompt_name"),
    )


def _list_patterns(*, with_code: bool) -> list[str]:
    """Names of the files that can change a prediction."""
    return [*_READ_FROM_HUB, _CODE] if with_code else list(_READ_FROM_HUB)


def _require_own_code(folder: Path) -> None:
    """Refuse classes of another repository, `org/name--module.Class`: no commit in the spec pins them.

    Raises:
        ModelError: a configuration names one.
    """
    for path in sorted(folder.rglob("*config.json")):
        config = _read_json(path)
        auto_map = config.get("auto_map") if isinstance(config, dict) else None
        if other := re.search(r'"([^"]+)--', json.dumps(auto_map)):
            raise ModelError(
                f"auto_map takes code from another repository, '{other[1]}', which the spec does not pin",
                str(path),
                f"copy the model and that code into one folder, take '{other[1]}--' out of auto_map there, "
                "and give the folder in model.id",
            )


def _read_pooling(path: Path) -> str:
    """One of mean, cls, max, last; both the older flags and the newer `pooling_mode` are read."""
    config = _read_json(path)
    flags = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_lasttoken": "last",
    }
    set_flags = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    mode = config.get("pooling_mode") or [flags.get(flag, flag) for flag in set_flags]
    modes = [mode] if isinstance(mode, str) else list(mode)
    modes = ["last" if name == "lasttoken" else name for name in modes]
    if len(modes) != 1 or modes[0] not in flags.values():
        raise ModelError(f"pooling {modes} is not supported", str(path), "set options.pooling")
    if config.get("include_prompt", True) is False:
        raise ModelError("pooling without the prompt's tokens is not supported", str(path))
    return str(modes[0])


def _transformer_folder(folder: Path) -> Path:
    """Where the weights are: the folder itself, or its sentence-transformers module 0."""
    if not (folder / "modules.json").is_file():
        return folder
    modules = _read_json(folder / "modules.json")
    return next(
        (_module_folder(folder, module) for module in modules if module["type"].endswith("Transformer")),
        folder,
    )


def _module_folder(folder: Path, module: Mapping[str, str]) -> Path:
    """A module's own folder, within the model's: the file that names it comes from a repository.

    Raises:
        ModelError: it is elsewhere.
    """
    path = PurePosixPath(module["path"])
    if path.is_absolute() or ".." in path.parts or "\0" in module["path"]:
        what = f"modules.json names a folder that is not the model's own: {module['path']!r}"
        raise ModelError(what, str(folder))
    return folder / path


def _download(name: str, revision: str | None, *, with_code: bool) -> Path:
    from huggingface_hub import errors, snapshot_download

    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        names = [one for one in _names_beside(Path(name)) if one != Path(name).name]
        near = difflib.get_close_matches(Path(name).name, names, n=1)
        hint = (
            f"did you mean '{Path(name).with_name(near[0])}'?"
            if near
            else "give a folder or a hub id, org/name"
        )
        raise ModelError("no such folder", str(Path(name).absolute()), hint)
    wanted = _list_patterns(with_code=with_code)
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=wanted, ignore_patterns=list(_OTHER_ENGINES)
        )
    except errors.HFValidationError as error:
        raise ModelError("no such folder, and not a hub id, org/name", name) from error
    except errors.GatedRepoError as error:
        raise ModelForbidden(
            "the hub asks for access to this model", name, "accept its terms, set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"no revision '{revision}'", name) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelForbidden("no such model, or a private one", name, "check the id; set HF_TOKEN") from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise _explain_failure(error, name) from error
    return Path(folder)


def _explain_failure(error: Exception, name: str) -> ModelError:
    """What to do where nothing was said against the model itself."""
    from huggingface_hub import errors

    elsewhere = f"give a folder in model.id, or fetch it once where there is a network: `hf download {name}`"
    what = "the hub cannot be reached and the model is not in the local cache"
    if is_silence(error):
        said = " ".join(str(error.__cause__ or error).split())[:200]
        return ModelUnavailable(f"{what}: {said}", name, f"run it again when it answers; or {elsewhere}")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return ModelError(what, name, elsewhere)
    return ModelError(
        f"cannot be fetched from the hub: {error}", name, "mend that, or give a folder in model.id"
    )


def _names_beside(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []


def _digest_file(path: Path) -> str:
    """SHA-256; the hub's cache names large blobs by it, which saves reading them."""
    blob = path.resolve().name
    if path.is_symlink() and _BLOB.fullmatch(blob):
        return blob
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError("missing file", str(path), "is this the folder of a transformers model?") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"not readable as JSON: {error}", str(path)) from error


def _read_optional(path: Path) -> dict[str, Any]:
    return dict(_read_json(path)) if path.is_file() else {}
