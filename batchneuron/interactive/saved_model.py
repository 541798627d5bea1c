"""A model for interactive use: which one, held to which shape, and how it is kept in a folder.

A saved folder is a model's folder like any other, with the shape and the compiler's options under
`neuron` in its config.json, in the words of optimum-neuron, and the artifact beside the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batchneuron import __version__
from batchneuron.backends import choose_kind, open_backend
from batchneuron.errors import BackendError, ModelError, ModelForbidden
from batchneuron.interactive.older_words import pass_over
from batchneuron.model import Model, digest_files, resolve_model
from batchneuron.planning.shapes import Shape
from batchneuron.programs.optimum_folder import find_program, is_compiled, read_compiled, require_fitting
from batchneuron.spec.sections import BackendSpec, DType, InputSpec, JobSpec, ModelSpec, OutputSpec
from batchneuron.tasks import KINDS, find_kind

DEFAULT_BATCH_SIZE, DEFAULT_SEQUENCE_LENGTH = 1, 128
COMPILER_ARGS = ("optlevel", "auto_cast", "auto_cast_type")
ARTIFACTS = "batchneuron"
"""The folder of artifacts within a saved one."""
SECTION = "neuron"
_AXES = ("batch_size", "sequence_length")
_COPIED = ("*.json", "*.txt", "*.model", "*.jinja", "*.py", "*.safetensors")
_COMPILED = "*.neuron"
_OTHER_ENGINES = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")
_NOWHERE = "-"  # an interactive job reads and writes no files


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks for. What is left out is as the saved folder says, or else the default."""

    name: str | None = None
    """Folder or hub id; None: the task's default."""
    revision: str | None = None
    token: str | bool | None = None
    trust_remote_code: bool = False
    export: bool = False
    """Forget what the folder says of shapes and compiler."""
    dtype: DType | None = None
    axes: Mapping[str, int] | None = None
    """`batch_size`, `sequence_length`"""
    compiler_args: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """A model on this disk, the one shape it is compiled for, and by what."""

    task: str
    model: Model
    spec: JobSpec
    """Its `model` and `backend` sections; nothing is read or written."""
    shape: Shape

    @property
    def root(self) -> Path:
        """The whole folder of the model; that of the weights may be a part of it (sentence-transformers)."""
        return self.model.root

    @property
    def section(self) -> dict[str, Any]:
        """What config.json says of it under `neuron`."""
        facts = open_backend(self.spec).facts
        return {
            "compiler_type": facts.kind,
            "compiler_version": facts.versions.get(facts.kind, ""),
            "task": self.task,
            "model_type": self.model.config.get("model_type"),
            "static_batch_size": self.shape.batch_size,
            "static_sequence_length": self.shape.sequence_length,
            "dynamic_batch_size": False,
            "float_dtype": self.spec.model.dtype,
            "int_dtype": "int64",
            **{name: facts.compiler_args.get(name) for name in COMPILER_ARGS},
            "batchneuron_version": __version__,
            "model_digest": self.model.digest,
        }


def resolve_export(task: str, wish: Wish) -> Export:
    """What a caller asks for, found and held against the model's limits.

    Raises:
        ModelError: the model cannot be had.
        BackendError: it is in a form that only a Neuron backend can read.
        ValueError: a shape that the model cannot take.
    """
    kind = find_kind(task)
    spec = ModelSpec(id=wish.name, revision=wish.revision, trust_remote_code=wish.trust_remote_code)
    model = _resolve(spec, kind.default_model, wish)
    section = {} if wish.export else read_section(model.config)
    spec = spec.model_copy(update={"dtype": wish.dtype or section.get("float_dtype", "float32")})
    # Only a saved folder has the entry: to hash all weights takes seconds.
    if "source_digest" in section and section["source_digest"] == _digest_source(model.folder):
        model = replace(model, digest=section["model_digest"])
    # No casts are the default, and the native stack refuses to be told so.
    saved = {name: section[name] for name in COMPILER_ARGS if section.get(name) not in (None, "none")}
    length = 1 if "input_ids" not in kind.program_inputs else None  # an image is one item of length 1
    shape = choose_shape(model, {**_read_axes(section), **(wish.axes or {})}, length)
    require_fitting(model, task, (shape.batch_size, shape.sequence_length), export=wish.export)
    return Export(task, model, make_spec(task, spec, {**saved, **(wish.compiler_args or {})}), shape)


def infer_task(wish: Wish) -> str:
    """The task that a model was saved or trained for; one without a head gives vectors.

    Raises:
        ModelError: the model cannot be had.
    """
    config = _resolve(ModelSpec(id=wish.name, revision=wish.revision), "", wish).config
    trained = (config.get("architectures") or [""])[0]
    heads = {kind.auto_model.removeprefix("AutoModel"): name for name, kind in reversed(KINDS.items())}
    known = (name for head, name in heads.items() if head and trained.endswith(head))
    return str(read_section(config).get("task") or next(known, "feature-extraction"))


def replace_preprocessor(
    model: Model, given: Any, is_image: bool, token: str | bool | None
) -> tuple[Model, Any]:
    """The model with another tokenizer or image processor, and the temporary folder that holds both.

    The model itself and None where its own is the same.

    Args:
        model: stays as it is.
        given: a transformers object, or where to find one.
        is_image: whether it is an image processor.
        token: opens gated and private repositories.

    Raises:
        TypeError: `given` is neither.
    """
    import transformers

    load = (transformers.AutoImageProcessor if is_image else transformers.AutoTokenizer).from_pretrained
    if isinstance(given, (str, Path)):
        given = load(given, token=token, trust_remote_code=model.trust_remote_code)
    if not hasattr(given, "save_pretrained"):
        word = "an image processor" if is_image else "a tokenizer"
        raise TypeError(f"{word} is an object of transformers, a hub id or a folder; not {given!r:.80}")
    with contextlib.suppress(OSError, ValueError):  # a folder without one of its own
        own = load(model.folder, local_files_only=True, trust_remote_code=model.trust_remote_code)
        if _describe(own) == _describe(given):
            return model, None
    folder = tempfile.TemporaryDirectory(prefix="batchneuron-")
    given.save_pretrained(folder.name)
    for path in model.folder.iterdir():
        target = Path(folder.name) / path.name
        if path.is_file() and not target.exists() and not path.match("vocab.*") and path.suffix != ".model":
            target.symlink_to(path.resolve())
    made = Path(folder.name)
    digest = digest_files(made, with_code=model.trust_remote_code)
    return replace(model, folder=made, digest=digest), folder


def _describe(preprocessor: Any) -> dict[str, Any]:
    """What a tokenizer or image processor does, apart from the padding and cutting of its last call."""
    backend = getattr(preprocessor, "backend_tokenizer", None)
    if backend is None:
        return dict(preprocessor.to_dict()) if hasattr(preprocessor, "to_dict") else {"itself": preprocessor}
    facts = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "special_tokens_map")
    passing = {"truncation": None, "padding": None}
    return {
        **{fact: getattr(preprocessor, fact, None) for fact in facts},
        "backend": {**json.loads(backend.to_str()), **passing},
    }


def make_spec(task: str, model: ModelSpec, compiler_args: Mapping[str, Any]) -> JobSpec:
    """A job's record for what is run in this process, over rows that are in no file.

    Without a Neuron device it is PyTorch that runs it: calls are answered with transformers' own numbers, and
    nothing has to be converted first. With one the arithmetic is float32, because no parity gate stands
    before these answers; as with optimum-neuron, `auto_cast` asks for less, and where the stack has no such
    option weights in bfloat16 do.
    """
    spec = JobSpec.model_validate(
        {
            "task": task,
            "model": model,
            "input": InputSpec(path=_NOWHERE),
            "backend": BackendSpec(workers=0, compiler_args=dict(compiler_args)),
            "output": OutputSpec(path=_NOWHERE),
        }
    )
    match choose_kind(spec):
        case "cpu":
            chosen = {"kind": "torch"}
        case "neuron" if model.dtype == "bfloat16":
            chosen = {"precision": "bfloat16"}
        case _:
            chosen = {"precision": "float32"}
    return spec.model_copy(update={"backend": spec.backend.model_copy(update=chosen)})


def choose_shape(model: Model, axes: Mapping[str, int], length: int | None = None) -> Shape:
    """The shape asked for; an axis that is not: one row, 128 tokens or what the model takes.

    Args:
        model: says how many tokens it takes at most.
        axes: `batch_size`, `sequence_length`, or one of them, or none.
        length: the only length there is.

    Raises:
        ValueError: an axis of another name, no number above 0, or more tokens than the model takes.
    """
    for name, size in axes.items():
        if name not in _AXES:
            raise ValueError(f"no axis is called '{name}'; there are {', '.join(_AXES)}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} is a whole number of at least 1, not {size!r}")
    limits = [model.max_positions, model.sentence.max_seq_length if model.sentence else None]
    limit = min((limit for limit in limits if limit is not None), default=None)
    default = DEFAULT_SEQUENCE_LENGTH if limit is None else min(DEFAULT_SEQUENCE_LENGTH, limit)
    tokens = length or axes.get("sequence_length", default)
    if model.max_positions is not None and tokens > model.max_positions:
        raise ValueError(f"sequence_length is {tokens}, and the model takes {model.max_positions} tokens")
    return Shape(axes.get("batch_size", DEFAULT_BATCH_SIZE), tokens)


def read_dtype(options: dict[str, Any]) -> DType | None:
    """The type of the weights that a caller names, taken out of the options.

    Raises:
        ValueError: a type that weights are not loaded as.
    """
    older = options.pop("torch_dtype", None)
    given = options.pop("dtype", older)
    named = str(given).removeprefix("torch.")
    known: dict[str, DType | None] = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
    if named not in (*known, "None"):
        raise ValueError(f"dtype is one of {', '.join(known)}, not {named}")
    return known.get(named)


def read_compiler_args(options: Mapping[str, Any]) -> dict[str, Any]:
    """The compiler's options, of what a caller says beside a call's own arguments.

    Raises:
        TypeError: one that does not exist.
        ValueError: one of optimum-neuron's that asks for what there is not.
    """
    meant = pass_over(options)
    unknown = sorted(meant.keys() - set(COMPILER_ARGS))
    if unknown:
        raise TypeError(f"there is no option '{unknown[0]}'; the compiler has {', '.join(COMPILER_ARGS)}")
    return {name: meant[name] for name in COMPILER_ARGS if meant.get(name) is not None}


def read_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says under `neuron`; nothing where it was not saved from here."""
    section = config.get(SECTION)
    return dict(section) if isinstance(section, Mapping) and "model_digest" in section else {}


def save_export(export: Export, folder: Path, artifacts: Iterable[Path]) -> None:
    """Write the model's files, its configuration with the `neuron` section, and the artifacts.

    Raises:
        ModelError: the folder is the model's own.
    """
    if folder.resolve() == export.root.resolve():
        raise ModelError("the model is in this folder already", str(folder), "save it to another one")
    compiled = find_program(export.model)
    for source in [*_list_files(export.root), *([compiled] if compiled else [])]:
        target = folder / source.relative_to(export.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    if compiled is not None:
        return  # its configuration says all that it did
    weights_folder = folder / export.model.folder.relative_to(export.root)
    for artifact in artifacts:
        shutil.copytree(artifact, weights_folder / ARTIFACTS / artifact.name, dirs_exist_ok=True)
    section = {**export.section, "source_digest": _digest_source(weights_folder)}
    config = {**export.model.config, SECTION: section}
    (weights_folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def upload(
    folder: str | Path,
    repository: str,
    private: bool | None,
    revision: str | None,
    opening: tuple[str | None, str | bool | None],
) -> str:
    """Upload a saved folder to a repository of the hub, made if need be; gives the repository's id.

    `opening`: the hub's address and a token, or None for the usual ones.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=opening[0], token=opening[1])
    name = str(api.create_repo(repository, private=private, exist_ok=True).repo_id)
    api.upload_folder(folder_path=folder, repo_id=name, revision=revision)
    return name


def _resolve(spec: ModelSpec, default_id: str, wish: Wish) -> Model:
    """The model's record; the token, where one is given, opens the hub."""
    name = spec.id or default_id
    folder = Path(name).expanduser()
    if folder.is_dir() and is_compiled(folder):
        return _open_compiled(folder, name, wish)
    if wish.token and not folder.is_dir():
        folder = _download(name, wish, _COPIED)
        spec = spec.model_copy(update={"id": str(folder)})
    try:
        model = resolve_model(spec, default_id, allow_remote_code=wish.trust_remote_code)
    except ModelError as error:
        # Repositories of compiled models hold no weights that could be read here.
        if is_compiled(Path(error.where)):
            return _open_compiled(Path(error.where), name, wish)
        raise
    return replace(model, id=name)


def _open_compiled(folder: Path, name: str, wish: Wish) -> Model:
    """The model of a folder that optimum-neuron compiled; of a repository, with its compiled file fetched.

    Raises:
        BackendError: this machine cannot load it.
        ModelError: the file cannot be had.
    """
    if choose_kind(make_spec("text-classification", ModelSpec(), {})) != "neuron-trace":
        raise BackendError(
            "the model was compiled by optimum-neuron, which needs the backend neuron-trace",
            name,
            "open it on Inf2 or Trn1; on this machine, give the model it was compiled from",
        )
    if not Path(name).expanduser().is_dir():
        folder = _download(name, wish, (*_COPIED, _COMPILED))
    return read_compiled(folder.resolve(), name)


def _download(name: str, wish: Wish, patterns: tuple[str, ...]) -> Path:
    """The snapshot's folder in the hub's cache, its files that match fetched with the caller's token."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=wish.revision,
                token=wish.token,
                allow_patterns=list(patterns),
                ignore_patterns=list(_OTHER_ENGINES),
            )
        )
    except errors.RepositoryNotFoundError as error:  # gated ones too
        raise ModelForbidden("no such model, or the token does not open it", name) from error
    except (errors.LocalEntryNotFoundError, errors.RevisionNotFoundError, OSError) as error:
        raise ModelError(f"cannot be fetched: {error}", name) from error


def _list_files(root: Path) -> list[Path]:
    """The files that a saved folder has too: no artifacts, no other engines' weights."""
    files = {path for pattern in _COPIED for path in root.rglob(pattern) if path.is_file()}
    skipped = {ARTIFACTS, "onnx", "openvino", ".cache"}
    return sorted(path for path in files if not skipped & set(path.relative_to(root).parts[:-1]))


def _digest_source(folder: Path) -> str:
    """SHA-256 over the folder's files without what saving adds: tells whether they were changed since."""
    total = hashlib.sha256()
    for path in _list_files(folder):
        total.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        if path == folder / "config.json":
            config = {name: value for name, value in json.loads(path.read_text()).items() if name != SECTION}
            total.update(json.dumps(config, sort_keys=True).encode())
        else:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _read_axes(section: Mapping[str, Any]) -> dict[str, int]:
    return {name: section[f"static_{name}"] for name in _AXES if f"static_{name}" in section}
