"""Programs in the calling process: compiled or found, loaded, and fed with tensors of any size.

Beside a task's own program there is a plain one for each: the model's outputs with no head behind them,
which is what `NeuronModelFor…` gives. A head can be run behind a plain program on the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pydantic import JsonValue

from batchneuron.artifacts import Artifact, compile_artifact, default_cache, is_intact, list_artifacts
from batchneuron.artifacts.adopt import adopt_compiler
from batchneuron.backends import open_backend
from batchneuron.backends.backend import Backend, CompileRequest, Executable
from batchneuron.backends.neuron_optimum import load_optimum
from batchneuron.interactive.saved_model import ARTIFACTS, Export
from batchneuron.model import Model
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.programs.optimum_folder import find_program
from batchneuron.programs.padding import open_reference, require_known
from batchneuron.spec.sections import JobSpec
from batchneuron.stages.execute import execute, require_vocabulary
from batchneuron.stages.items import Tensor
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import find_kind
from batchneuron.tasks.task import Encoder, Task, TaskKind

SENTENCE_OUTPUTS = ("token_embeddings", "sentence_embedding")
_OUTPUTS = {
    "feature-extraction": ("last_hidden_state",),
    "question-answering": ("start_logits", "end_logits"),
}
_LOGITS = ("logits",)
# Outputs [B, L, …]; all others are [B, …].
_PER_TOKEN = {"last_hidden_state", "start_logits", "end_logits", "token_embeddings"}
_TOKEN_LOGITS = {"fill-mask", "token-classification"}


@dataclass(frozen=True, slots=True)
class _Plain:
    """The head of a plain program: some of the model's outputs, as they are."""

    names: tuple[str, ...]

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """The outputs, float32: [B, …] each."""
        outputs = model(**_cast(inputs, model))
        return tuple(outputs[name].float() for name in self.names)


@dataclass(frozen=True, slots=True)
class _Sentences:
    """The head of a sentence-transformers folder's plain program: token vectors, and the pooled one."""

    pooling: Task

    def head(self, model: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Float32 [B, L, H] and [B, H]."""
        hidden = model(**inputs)[0].float()
        return hidden, *self.pooling.head(lambda **_: (hidden,), inputs)


def plain_kind(task: str, names: tuple[str, ...] = ()) -> TaskKind:
    """The task's model without its head, as a task of its own.

    Args:
        task: a task's name.
        names: the model's outputs; by default those that transformers' pipeline of the task looks at.
    """
    kind = find_kind(task)
    names = names or _OUTPUTS.get(task, _LOGITS)

    def bind(model: Model, options: Any, opened: Any) -> Task:
        head = _Sentences(kind.open(model, options, opened)) if names == SENTENCE_OUTPUTS else _Plain(names)
        return cast(Task, head)  # a program asks its task for nothing but the head

    inputs = tuple(name for name in kind.program_inputs if name != "mask_position")
    return replace(kind, name=f"{kind.auto_model}: {', '.join(names)}", open=bind, program_inputs=inputs)


@dataclass(frozen=True, slots=True)
class PlainProgram:
    """A plain program, loaded."""

    executable: Executable
    artifact: Artifact
    names: tuple[str, ...]
    """Its outputs."""
    per_token: frozenset[str]
    """Those of them that are [B, L, …]."""
    vocabulary: int | None = None
    """Token ids must be below it; None: not known."""

    def run(self, inputs: Mapping[str, Tensor], fills: Mapping[str, int]) -> dict[str, Tensor]:
        """Outputs for R rows, any number of them: padded to the one shape, and cut back.

        Args:
            inputs: [R, length] each, or [R, …] for images. What the program does not take is left out; a mask
                that is not there is all ones, and token types are zeros.
            fills: what an input is padded with; 0 where nothing is said.

        Raises:
            ValueError: an input is missing, or longer than the shape.
            ProgramError: a token is outside the vocabulary.
        """
        if "input_ids" in inputs:
            require_vocabulary(inputs["input_ids"], self.vocabulary)
        padded = _pad(self.executable, inputs, fills)
        rows, batch_size = len(padded[0]), self.executable.shape.batch_size
        batches = [_run_batch(self.executable, padded, start) for start in range(0, rows, batch_size)]
        joined = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
        length = next(iter(inputs.values())).shape[1]
        return {
            name: output[:, :length] if name in self.per_token else output
            for name, output in zip(self.names, joined, strict=True)
        }


def open_plain(export: Export, names: tuple[str, ...] = ()) -> PlainProgram:
    """The plain program of a model, compiled if need be.

    Raises:
        ModelError: the weights cannot be loaded, or are not the task's.
        BackendError: this machine cannot run it.
        ParityError: the model's outputs depend on padding.
    """
    kind = plain_kind(export.task, names)
    if program := find_program(export.model):
        loaded = load_optimum(open_backend(export.spec), program, export.shape, export.model.config)
        executable, artifact = loaded, Artifact(export.shape, program)
    else:
        executable, artifact = _open(export, CompileRequest(kind.name, {}, export.model, kind))
    names = names or _OUTPUTS.get(export.task, _LOGITS)
    per_token = _PER_TOKEN | ({"logits"} if export.task in _TOKEN_LOGITS else set())
    vocabulary = export.model.config.get("vocab_size")
    return PlainProgram(executable, artifact, names, frozenset(names) & per_token, vocabulary)


def open_program(export: Export, options: Mapping[str, JsonValue]) -> Executable:
    """The program of a task with these options, compiled if need be: the one that jobs have."""
    return _open(export, CompileRequest(export.task, options, export.model))[0]


@dataclass(frozen=True, slots=True)
class HostHead:
    """A task's program made of a plain one: the head runs on the host, whatever its options are."""

    plain: PlainProgram
    kind: TaskKind
    task: Task

    @property
    def shape(self) -> Shape:
        """The plain program's."""
        return self.plain.executable.shape

    @property
    def least_rows(self) -> int:
        """The plain program's."""
        return self.plain.executable.least_rows

    @property
    def input_names(self) -> tuple[str, ...]:
        """The model's inputs, and those of the head alone."""
        taken = self.plain.executable.input_names
        return (*taken, *(name for name in self.kind.program_inputs if name not in taken))

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the head [B, …], of inputs [B, …] in the order of `input_names`."""
        import torch

        given = dict(zip(self.input_names, inputs, strict=True))
        outputs = self.plain.executable(*(given[name] for name in self.plain.executable.input_names))
        outputs = outputs[: len(self.plain.names)]  # optimum-neuron's programs may give more
        done = _Done(self.plain.names, tuple(torch.from_numpy(output) for output in outputs), torch.float32)
        with torch.inference_mode():
            made = self.task.head(done, {name: torch.from_numpy(tensor) for name, tensor in given.items()})
        return tuple(output.numpy() for output in made)


@dataclass(frozen=True)
class _Done:
    """Stands for the model towards a head: it was run already, and this is what it gave."""

    names: tuple[str, ...]
    tensors: tuple[Any, ...]
    dtype: Any

    @property
    def base_model(self) -> _Done:
        """Itself: there is no encoder to look into."""
        return self

    def __call__(self, **_: Any) -> Any:
        from transformers.utils import ModelOutput

        return ModelOutput(zip(self.names, self.tensors, strict=True))


def embed(
    export: Export, program: PlainProgram, encoder: Encoder, texts: Sequence[str], output: str
) -> list[Tensor]:
    """Vectors of texts in their order, one array each: `output` of a sentence program, [H] or [tokens, H].

    Raises:
        ValueError: a text is longer than the compiled shape.
    """
    compiled, model = export.shape.sequence_length, encoder.model_limit_tokens
    # The model's own limit cuts, as in sentence-transformers; a shape that is shorter does not.
    limit = Limit(model, "truncate") if model <= compiled else Limit(compiled, "reject")
    made = encoder.encode(pa.table({"text": pa.array(texts, pa.large_string())}), limit)
    for refused in made.rejections:
        raise ValueError(f"text {refused.row}: {refused.message}: compile a longer sequence_length")
    vocabulary = export.model.config.get("vocab_size")
    executed = execute(made.items, Ladder((export.shape,)), [program.executable], vocabulary, lambda _: None)
    vectors = executed.outputs.stack(program.names.index(output))
    if output not in program.per_token:
        return list(vectors)
    return [vector[:length] for vector, length in zip(vectors, made.items.lengths, strict=True)]


def _pad(executable: Executable, inputs: Mapping[str, Tensor], fills: Mapping[str, int]) -> list[Tensor]:
    """The program's inputs in its order, padded at the right: [R, L] each; images as they are."""
    first = next(iter(inputs.values()))
    given = {"attention_mask": np.ones_like(first), "token_type_ids": np.zeros_like(first), **inputs}
    missing = [name for name in executable.input_names if name not in given]
    if missing or not len(first):
        raise ValueError(f"the model needs {missing[0]}" if missing else "there are no rows in the input")
    names, length = executable.input_names, executable.shape.sequence_length
    if "input_ids" not in names:
        return [given[name] for name in names]
    surplus = length - first.shape[1]
    if surplus < 0:
        raise ValueError(
            f"{first.shape[1]} tokens, and the model is compiled for {length}: shorten the text "
            "(truncation=True, max_length=…), or compile it for a longer sequence_length"
        )
    return [np.pad(given[name], ((0, 0), (0, surplus)), constant_values=fills.get(name, 0)) for name in names]


def _run_batch(executable: Executable, inputs: Sequence[Tensor], start: int) -> tuple[Tensor, ...]:
    """Outputs of the rows from `start` on, as many as a batch has; copies of the first fill it if need be."""
    count = min(executable.shape.batch_size, len(inputs[0]) - start)
    fillers = max(0, executable.least_rows - count)
    picks = np.concatenate([np.arange(start, start + count), np.full(fillers, start)])
    return tuple(output[:count] for output in executable(*(tensor[picks] for tensor in inputs)))


def _open(export: Export, request: CompileRequest) -> tuple[Executable, Artifact]:
    """The program, from the saved folder's artifacts or the user's own, where it may have to be compiled."""
    caches = (export.model.folder / ARTIFACTS, default_cache())
    backend = adopt_compiler(open_backend(export.spec), export.spec, request, caches)
    ladder = Ladder((export.shape,))
    found = [list_artifacts(backend, request, ladder, cache)[0] for cache in caches]
    artifact = next((artifact for artifact in found if is_intact(artifact.folder)), None)
    if artifact is None:
        artifact = found[-1]
        compile_artifact(backend, request, artifact)
    return _load(backend, artifact, request, export.spec), artifact


def _load(backend: Backend, artifact: Artifact, request: CompileRequest, spec: JobSpec) -> Executable:
    """The loaded program, of a model that padding does not change.

    A backend may take one thread for a worker's sake; this process keeps its own.
    """
    import torch

    threads = torch.get_num_threads()
    try:
        executable = backend.load(artifact.folder, artifact.shape, request)
        reference = open_reference(backend, spec, request, artifact.folder)
        require_known(request, artifact.shape.sequence_length, artifact.folder, reference)
        return executable
    finally:
        torch.set_num_threads(threads)


def _cast(inputs: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Inputs with pixels in the type of the weights."""
    return {
        name: tensor.to(model.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in inputs.items()
    }
