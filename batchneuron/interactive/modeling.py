"""`NeuronModelFor…`: a compiled model that is called with tensors, as a transformers model is.

The names, the arguments and what is saved follow optimum-neuron. The same objects work inside
`transformers.pipeline(task, model=model, tokenizer=tokenizer, device=model.device)`.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from batchneuron.errors import BackendError
from batchneuron.interactive.mistakes import require_axes
from batchneuron.interactive.saved_model import (
    Export,
    Wish,
    read_compiler_args,
    read_dtype,
    resolve_export,
    save_export,
    upload,
)
from batchneuron.interactive.static_program import SENTENCE_OUTPUTS, PlainProgram, embed, open_plain
from batchneuron.interactive.vectors import measure_similarity, stack_vectors
from batchneuron.tasks import find_kind, open_task
from batchneuron.tasks.task import Encoder


class NeuronModel:
    """A model of one task, compiled for one shape."""

    task: ClassVar[str]
    output: ClassVar[str]
    """The class in `transformers.modeling_outputs` that a call gives."""
    outputs: ClassVar[tuple[str, ...]] = ()
    """Names in it; by default the task's."""
    main_input_name: ClassVar[str] = "input_ids"
    base_model_prefix: ClassVar[str] = "neuron_model"
    input_modalities: ClassVar[str] = "text"
    output_modalities: ClassVar[str] = "text"
    forward: Callable[..., Any]

    def __init__(self, export: Export, config: Any = None) -> None:
        self.export = export
        self._config = config
        self._declare()

    @classmethod
    def from_pretrained(  # noqa: PLR0913  # optimum-neuron's signature
        cls,
        model_id: str | Path,
        export: bool = False,
        config: Any = None,
        revision: str | None = None,
        token: str | bool | None = None,
        trust_remote_code: bool = False,
        batch_size: int | None = None,
        sequence_length: int | None = None,
        **options: Any,
    ) -> Self:
        """The model of a folder or hub id, compiled if it is not yet, and loaded.

        Args:
            model_id: a model's folder, one that `save_pretrained` wrote, or a hub id.
            export: compile it anew, whatever a saved folder says of shapes and compiler.
            config: what the object shows as its `config`, instead of the folder's.
            revision: branch, tag or commit of a hub id.
            token: opens gated and private models.
            trust_remote_code: run code from the model's repository.
            batch_size: rows of a compiled batch; by default as saved, or 1.
            sequence_length: tokens of a compiled row; by default as saved, or 128, or what the model takes.
            options: `optlevel`, `auto_cast` and `auto_cast_type` for the compiler; `dtype` of the weights.

        Raises:
            ModelError: the model cannot be had, or is not of this task.
            BackendError: this machine cannot run it.
            TypeError: an option that does not exist.
            ValueError: a shape that the model cannot take.
        """
        axes = {"batch_size": batch_size, "sequence_length": sequence_length}
        wish = Wish(
            name=str(model_id),
            revision=revision,
            token=token,
            trust_remote_code=trust_remote_code,
            export=export,
            dtype=read_dtype(options),
            axes={name: size for name, size in axes.items() if size is not None},
            compiler_args=read_compiler_args(options),
        )
        model = cls(resolve_export(cls.task, wish), config)
        _ = model.program
        return model

    @functools.cached_property
    def program(self) -> PlainProgram:
        """The model without a head, compiled and loaded on first use."""
        return open_plain(self.export, self.outputs)

    @functools.cached_property
    def config(self) -> Any:
        """The model's `transformers` configuration."""
        from transformers import AutoConfig

        folder, trusted = self.export.model.folder, self.export.model.trust_remote_code
        return self._config or AutoConfig.from_pretrained(folder, trust_remote_code=trusted)

    @property
    def device(self) -> Any:
        """Where tensors are taken and given: the CPU, whatever the program runs on."""
        import torch

        return torch.device("cpu")

    @property
    def dtype(self) -> Any:
        """The type of the weights."""
        import torch

        return getattr(torch, self.export.spec.model.dtype)

    @property
    def input_static_shapes(self) -> dict[str, int]:
        """`batch_size` and `sequence_length` it is compiled for."""
        shape = self.export.shape
        return {"batch_size": shape.batch_size, "sequence_length": shape.sequence_length}

    @property
    def neuron_config(self) -> SimpleNamespace:
        """What a saved folder's config.json says under `neuron`, and the two axes."""
        return SimpleNamespace(**self.export.section, **self.input_static_shapes)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The same as `forward`."""
        return self.forward(*inputs, **named)

    def _run(self, tensors: Mapping[str, Any]) -> Any:
        import torch
        from transformers import modeling_outputs

        if self.main_input_name not in tensors:
            raise ValueError(f"the model needs {self.main_input_name}")
        pad = self.export.model.config.get("pad_token_id")
        inputs = {name: torch.as_tensor(tensor).detach().cpu().numpy() for name, tensor in tensors.items()}
        require_axes(inputs)
        made = self.program.run(inputs, {"input_ids": int(pad or 0)})
        known = {name: torch.from_numpy(output) for name, output in made.items()}
        return getattr(modeling_outputs, self.output)(**known)

    def _declare(self) -> None:
        """Tell transformers of the class, as of any class of one's own: its pipelines look for the name."""
        import transformers

        loader = getattr(transformers, find_kind(self.task).auto_model)
        loader.register(_config_class(), type(self), exist_ok=True)

    def can_generate(self) -> bool:
        """No: it writes no text."""
        return False

    def eval(self) -> Self:
        """Itself."""
        return self

    def to(self, device: Any) -> Self:
        """Itself, where it is already.

        Raises:
            BackendError: it cannot be moved.
        """
        import torch

        if torch.device(device).type != self.device.type:
            raise BackendError("a compiled model cannot be moved", str(device))
        return self

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **options: Any) -> None:
        """Write weights, tokenizer, configuration and artifact, to be loaded without compiling.

        Args:
            save_directory: a folder, made if need be.
            push_to_hub: upload it as well.
            options: those of `push_to_hub`, then.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        save_export(self.export, folder, [self.program.artifact.folder])
        if push_to_hub:
            self.push_to_hub(str(folder), options.pop("repository_id", folder.name), **options)

    def push_to_hub(  # noqa: PLR0913  # optimum-neuron's signature
        self,
        save_directory: str | Path,
        repository_id: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        endpoint: str | None = None,
        use_auth_token: str | bool | None = None,
    ) -> str:
        """Upload the model to a repository of the hub, made if need be; gives the repository's id.

        Args:
            save_directory: a folder that `save_pretrained` wrote, or will; alone, the repository's id.
            repository_id: `name` or `organisation/name`.
            private: whether a new repository is.
            revision: branch to upload to.
            token: the hub's; by default the one that is logged in.
            endpoint: the hub's address.
            use_auth_token: the older name of `token`.
        """
        token = use_auth_token if token is None else token
        if repository_id is not None:
            if not (Path(save_directory) / "config.json").is_file():
                self.save_pretrained(save_directory)
            return upload(save_directory, repository_id, private, revision, (endpoint, token))
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return upload(folder, str(save_directory), private, revision, (endpoint, token))


class NeuronTextModel(NeuronModel):
    """A model of texts, which takes tokens."""

    def forward(
        self, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None, **others: Any
    ) -> Any:
        """The outputs for R rows: tensors of as many rows, and as many tokens as were given.

        Inputs that the model does not take are left out, token types that it needs are supplied.

        Raises:
            ValueError: more tokens than it is compiled for, or no `input_ids`.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self._run({name: tensor for name, tensor in given.items() if tensor is not None})


class NeuronModelForFeatureExtraction(NeuronTextModel):
    """Vectors of tokens."""

    task = "feature-extraction"
    output = "BaseModelOutput"


class NeuronModelForMaskedLM(NeuronTextModel):
    """Logits of the vocabulary for each token."""

    task = "fill-mask"
    output = "MaskedLMOutput"


class NeuronModelForSequenceClassification(NeuronTextModel):
    """Logits of classes for each text."""

    task = "text-classification"
    output = "SequenceClassifierOutput"


class NeuronModelForTokenClassification(NeuronTextModel):
    """Logits of classes for each token."""

    task = "token-classification"
    output = "TokenClassifierOutput"


class NeuronModelForQuestionAnswering(NeuronTextModel):
    """Logits of an answer's first and last token."""

    task = "question-answering"
    output = "QuestionAnsweringModelOutput"


class NeuronModelForImageClassification(NeuronModel):
    """Logits of classes for each image."""

    task = "image-classification"
    output = "ImageClassifierOutput"
    main_input_name = "pixel_values"
    input_modalities = "image"

    def forward(self, pixel_values: Any = None, **others: Any) -> Any:
        """The logits of R images, [R, C, H, W]."""
        return self._run({} if pixel_values is None else {"pixel_values": pixel_values})


class NeuronSentenceTransformers(NeuronTextModel):
    """Vectors of texts, as a sentence-transformers folder says they are made."""

    task = "feature-extraction"
    output = "ModelOutput"
    outputs = SENTENCE_OUTPUTS

    @property
    def prompts(self) -> dict[str, str]:
        """The model's own prompts, by name."""
        sentence = self.export.model.sentence
        return dict(sentence.prompts) if sentence else {}

    @functools.cached_property
    def similarity_fn_name(self) -> str:
        """`cosine`, `dot`, `euclidean` or `manhattan`, as the folder says; cosine where it does not."""
        path = self.export.root / "config_sentence_transformers.json"
        settings = json.loads(path.read_text()) if path.is_file() else {}
        return settings.get("similarity_fn_name") or "cosine"

    def encode(  # noqa: PLR0913  # optimum-neuron's signature
        self,
        sentences: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        show_progress_bar: bool | None = None,
        output_value: Literal["sentence_embedding", "token_embeddings"] = "sentence_embedding",
        normalize_embeddings: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        batch_size: int | None = None,
    ) -> Any:
        """Vectors of texts in the order of the texts: float32 [R, H], or [H] for a single text.

        Args:
            sentences: a text, or several.
            prompt_name: which of the model's prompts stands before each; by default the folder's.
            prompt: a prompt of the caller's instead.
            show_progress_bar: without effect.
            output_value: `token_embeddings` gives a list with [tokens, H] of each text.
            normalize_embeddings: scale vectors to length 1, also where the folder does not.
            convert_to_numpy: an array; otherwise a list of tensors.
            convert_to_tensor: one tensor instead.
            batch_size: without effect: it is the compiled one.

        Raises:
            ValueError: a text is longer than the compiled shape, or there is no such prompt.
        """
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        if output_value not in SENTENCE_OUTPUTS:
            raise ValueError(f"output_value is one of {', '.join(SENTENCE_OUTPUTS)}, not {output_value!r}")
        if prompt is None:
            prompt = self._find_prompt(prompt_name)
        prompted = [prompt + text for text in texts]
        vectors = embed(self.export, self.program, self._encoder, prompted, output_value) if texts else []
        if output_value == "sentence_embedding" and normalize_embeddings:
            vectors = [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]
        form = "tensor" if convert_to_tensor else "numpy" * convert_to_numpy
        return stack_vectors(vectors, isinstance(sentences, str), form)

    @functools.cached_property
    def _encoder(self) -> Encoder:
        """The model's tokenizer, without a prompt."""
        return open_task(self.task, {"prompt": ""}, self.export.model).open_encoder()

    def _find_prompt(self, name: str | None) -> str:
        """The prompt of that name, or the folder's own."""
        sentence = self.export.model.sentence
        name = name or (sentence.default_prompt_name if sentence else None)
        if name is not None and name not in self.prompts:
            raise ValueError(f"no prompt '{name}'; the model has {', '.join(self.prompts) or 'none'}")
        return self.prompts[name] if name is not None else ""

    def similarity(self, first: Any, second: Any) -> Any:
        """How near each vector of the first is to each of the second: a tensor [R1, R2]."""
        return measure_similarity(self.similarity_fn_name, first, second)


def class_of(task: str) -> type[NeuronModel]:
    """The class of a task's models."""
    models: tuple[type[NeuronModel], ...] = (
        NeuronModelForFeatureExtraction,
        NeuronModelForMaskedLM,
        NeuronModelForSequenceClassification,
        NeuronModelForTokenClassification,
        NeuronModelForQuestionAnswering,
        NeuronModelForImageClassification,
    )
    task = "text-classification" if task == "zero-shot-classification" else task
    return next(model for model in models if model.task == task)


@functools.cache
def _config_class() -> Any:
    """What stands for these models where transformers asks for a configuration's class."""
    from transformers import PreTrainedConfig

    return type("NeuronConfig", (PreTrainedConfig,), {"model_type": "batchneuron"})
