"""`pipeline()`: transformers' pipelines over compiled models, for a notebook.

The way of the rows is that of a job: the same task, program, artifacts and decoding. Only what comes last
is another thing: Python objects instead of a file.
"""

from __future__ import annotations

import functools
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from batchneuron.backends.backend import Executable
from batchneuron.errors import DataError
from batchneuron.interactive.mistakes import plain_errors
from batchneuron.interactive.modeling import NeuronModel, class_of
from batchneuron.interactive.older_words import pass_over
from batchneuron.interactive.present import CONVENTIONS, Row, Settings, read_settings
from batchneuron.interactive.saved_model import (
    Export,
    Wish,
    infer_task,
    read_compiler_args,
    read_dtype,
    replace_preprocessor,
    resolve_export,
)
from batchneuron.interactive.static_program import HostHead, open_program
from batchneuron.planning.plan import Shard
from batchneuron.planning.shapes import Ladder
from batchneuron.programs.optimum_folder import find_program
from batchneuron.sources.source import FileId, ShardRows, Slice
from batchneuron.spec.template import parse_template
from batchneuron.stages.columns import ERROR, Columns
from batchneuron.stages.decode import decode
from batchneuron.stages.encode import encode
from batchneuron.stages.execute import execute
from batchneuron.stages.tokenize import Limit
from batchneuron.tasks import KINDS, find_kind, open_task
from batchneuron.tasks.task import Encoder, Task

ALIASES = {"ner": "token-classification", "sentiment-analysis": "text-classification"}
_KEPT = 4  # calls with other options may need a program of their own
_Opened = TypeVar("_Opened")


class InputRefused(DataError, ValueError):
    """An input that has no prediction: too long, without a mask, not readable."""


class Pipeline:
    """A task over one compiled model; called with texts, it gives what transformers' pipeline gives."""

    def __init__(
        self, export: Export, options: Mapping[str, Any], model: NeuronModel | None = None, folder: Any = None
    ) -> None:
        self.export = export
        self.task = export.task
        self._kind = find_kind(export.task)
        self._convention = CONVENTIONS[export.task]
        self._given = dict(options)
        self._model = model
        self._folder = folder  # holds a tokenizer that is not the model's own, and goes when this does
        self._bound: OrderedDict[str, tuple[Task, Encoder]] = OrderedDict()
        self._programs: OrderedDict[str, Executable] = OrderedDict()
        read_settings(self._kind, export.model, options)

    def __repr__(self) -> str:
        return f"Pipeline(task={self.task!r}, model={self.export.model.id!r}, shape={self.export.shape})"

    @functools.cached_property
    def model(self) -> NeuronModel:
        """The model by itself, to be called with tensors."""
        return self._model or class_of(self.task)(self.export)

    @property
    def device(self) -> Any:
        """Where results are: the CPU."""
        return self.model.device

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the model, transformers' own; None for a task without texts."""
        if "input_ids" not in self._kind.program_inputs:
            return None
        from transformers import AutoTokenizer

        model = self.export.model
        return AutoTokenizer.from_pretrained(model.folder, trust_remote_code=model.trust_remote_code)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The predictions: for one input its own, for a list a list, for anything else an iterator.

        Args:
            args: a text, or what else the task takes; a list, a generator or a data set of them.
            options: the task's, as in transformers: `top_k`, `aggregation_strategy`, `truncation`, ….

        Raises:
            InputRefused: an input that has no prediction; a ValueError.
            TypeError: an option that the task does not have.
        """
        said = dict(options)
        inputs = self._convention.read_call(args, said)
        settings = read_settings(self._kind, self.export.model, {**self._given, **said})
        if self._convention.is_one(inputs, settings):
            return self._answer(inputs, settings, said)
        if not isinstance(inputs, (list, tuple)):
            return self._stream(_iterate(inputs), settings)
        if len(inputs) == 1 and self._convention.unwraps_one:
            return self._answer(inputs[0], settings, said)
        rows = max(self._convention.list_rows, self.export.shape.batch_size)
        return [shown for piece in _cut(inputs, rows) for shown in self._predict(piece, settings)]

    def _answer(self, one: Any, settings: Settings, said: Mapping[str, Any]) -> Any:
        return self._convention.show_one(self._predict([one], settings)[0], one, said)

    def _stream(self, inputs: Iterable[Any], settings: Settings) -> Iterator[Any]:
        """Predictions as the inputs come, one compiled batch after the other."""
        for piece in _cut(inputs, self.export.shape.batch_size):
            yield from self._predict(piece, settings)

    def _predict(self, inputs: Sequence[Any], settings: Settings) -> list[Any]:
        """One Python object per input; inputs with the same columns go together."""
        rows = [self._convention.read_row(one, settings) for one in inputs]
        shown: list[Any] = [None] * len(rows)
        for names in dict.fromkeys(tuple(row) for row in rows):
            places = [place for place, row in enumerate(rows) if tuple(row) == names]
            with plain_errors():
                made = self._run([rows[place] for place in places], settings)
            for place, one in zip(places, made, strict=True):
                shown[place] = one
        return shown

    def _run(self, rows: Sequence[Row], settings: Settings) -> list[Any]:
        """The stages of a shard over these rows."""
        table = pa.table({name: pa.array([row[name] for row in rows]) for name in rows[0]})
        columns = Columns({name: parse_template(name) for name in rows[0]}, {}, frozenset(rows[0]))
        piece = Slice(FileId("", 0, ""), 0, len(rows), 0, 0)
        task, encoder = self._bind(settings)
        limit = self._choose_limit(encoder, settings)
        encoded = encode(Shard(0, 0, (piece,)), ShardRows(table), columns, encoder, limit)
        vocabulary = self.export.model.config.get("vocab_size")
        ladder = Ladder((self.export.shape,))
        program = self._open_program(settings, task)
        executed = execute(encoded.items, ladder, [program], vocabulary, lambda _: None)
        made = decode(encoded, executed, task)
        for number, error in enumerate(made[ERROR].to_pylist()):
            if error is not None:
                raise _refuse(error, rows[number], self._convention.own)
        return self._convention.show(made, rows, settings)

    def _choose_limit(self, encoder: Encoder, settings: Settings) -> Limit:
        """The longest item, and what happens to a text beyond it.

        Nothing is cut that transformers would not cut: a text that the model could take, and the compiled
        shape cannot, is refused.
        """
        compiled, model = self.export.shape.sequence_length, encoder.model_limit_tokens
        asked = [compiled, settings.max_length, self._convention.max_tokens]
        most = min(tokens for tokens in asked if tokens)
        is_split = self._convention.overflow == "split" or settings.options.get("stride") is not None
        if is_split:
            return Limit(min(most, model), "split")
        if settings.truncation:
            return Limit(min(most, model), "truncate")
        if settings.truncation is None and self._convention.overflow == "truncate" and model <= compiled:
            return Limit(model, "truncate")
        return Limit(compiled, "reject")

    def _bind(self, settings: Settings) -> tuple[Task, Encoder]:
        """The task with these options, and its encoder; the tokenizer, slow to open, is one for all."""
        key = json.dumps(settings.options, sort_keys=True)
        if key not in self._bound:
            opened = next((encoder for _, encoder in self._bound.values()), None)
            task = open_task(self.task, settings.options, self.export.model, opened)
            self._bound[key] = (task, task.open_encoder())
        return _use(self._bound, key)

    def _open_program(self, settings: Settings, task: Task) -> Executable:
        """The program for these options; behind a model that the caller opened, a head on the host."""
        if self._model is not None or find_program(self.export.model):
            return HostHead(self.model.program, self._kind, task)
        # Options that matter on the host alone are left at their defaults, so that programs are shared.
        compiled = {name: settings.options[name] for name in self._convention.program_options}
        options = self._kind.options().model_copy(update=compiled).model_dump(mode="json")
        key = json.dumps(options, sort_keys=True)
        if key not in self._programs:
            self._programs[key] = open_program(self.export, options)
        return _use(self._programs, key)


def pipeline(  # noqa: PLR0913  # optimum-neuron's signature
    task: str | None = None,
    model: str | Path | NeuronModel | None = None,
    tokenizer: Any = None,
    feature_extractor: Any = None,
    image_processor: Any = None,
    use_fast: bool = True,
    export: bool = False,
    input_shapes: Mapping[str, int] | None = None,
    compiler_args: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    trust_remote_code: bool | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Pipeline:
    """A pipeline that is called with inputs and gives predictions, over a model that is compiled if need be.

    Args:
        task: a task, `ner` or `sentiment-analysis`; by default what the model was trained for.
        model: hub id, folder, or a `NeuronModelFor…`; by default the task's.
        tokenizer: another one than the model's own: an object, a hub id or a folder.
        feature_extractor: the older name of `image_processor`.
        image_processor: another one than the model's own.
        use_fast: kept for the sake of old code; tokenizers are what the model's folder has.
        export: compile anew, whatever a saved folder says of shapes and compiler.
        input_shapes: `batch_size` and `sequence_length`, or one of them; by default as saved, or 1 and 128.
        compiler_args: `optlevel`, `auto_cast`, `auto_cast_type`.
        token: opens gated and private models.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run code from the model's repository.
        batch_size: rows of a compiled batch, as in input_shapes.
        options: `sequence_length`, `dtype` (float32), `device` (cpu), and what the task takes in a call;
            older words of optimum-neuron and transformers are read, passed over or refused by name.

    Raises:
        ModelError: the model cannot be had, or is not of this task.
        BackendError: this machine cannot run it.
        TypeError, ValueError: arguments that mean nothing.
    """
    options = pass_over(options)
    axes = _read_axes(input_shapes, batch_size, options)
    wish = Wish(
        name=str(model) if isinstance(model, (str, Path)) else None,
        revision=revision,
        token=token,
        trust_remote_code=bool(trust_remote_code),
        export=export,
        dtype=read_dtype(options),
        axes=axes,
        compiler_args=read_compiler_args(compiler_args or {}),
    )
    opened = model if isinstance(model, NeuronModel) else None
    name = _find_task(task, model, wish)
    found = resolve_export(name, wish) if opened is None else _adopt(opened, name, axes)
    given = (image_processor or feature_extractor) if name == "image-classification" else tokenizer
    if given is None:
        return Pipeline(found, options, opened)
    own, folder = replace_preprocessor(found.model, given, name == "image-classification", token)
    return Pipeline(replace(found, model=own), options, opened, folder)


def _find_task(task: str | None, model: Any, wish: Wish) -> str:
    """The task's name; one that is not given is what the model was trained for."""
    if not isinstance(model, (str, Path, NeuronModel, type(None))):
        raise TypeError(f"model is an id, a folder or a NeuronModelFor…, not a {type(model).__name__}")
    if task is None and model is None:
        raise ValueError("give a task, or a model")
    if task is None:
        task = model.task if isinstance(model, NeuronModel) else infer_task(wish)
    task = ALIASES.get(task, task)
    if task not in KINDS:
        raise ValueError(f"no task is called '{task}'; there are {', '.join([*KINDS, *ALIASES])}")
    return task


def _adopt(model: NeuronModel, task: str, axes: Mapping[str, int]) -> Export:
    """What the caller's model is, for this task."""
    if class_of(task).task != model.task:
        raise ValueError(f"a {type(model).__name__} is no model of {task}")
    compiled = model.input_static_shapes
    if {**compiled, **axes} != compiled:
        raise ValueError(f"the model is compiled for {compiled}, not for {dict(axes)}")
    return replace(model.export, task=task)


def _read_axes(
    shapes: Mapping[str, int] | None, batch_size: int | None, options: dict[str, Any]
) -> dict[str, int]:
    """Axes of the compiled shape that the caller gives, in either way; taken out of the options."""
    if str(options.pop("device", "cpu")) not in ("cpu", "-1", "None"):
        raise ValueError("device: results are on the CPU, and where a program runs follows from the machine")
    axes = dict(shapes or {})
    for name, size in (("batch_size", batch_size), ("sequence_length", options.pop("sequence_length", None))):
        if size is not None and axes.setdefault(name, size) != size:
            raise ValueError(f"{name} is {size}, and {axes[name]} in input_shapes")
    return axes


def _iterate(inputs: Any) -> Iterable[Any]:
    """The inputs of a generator, a data set, or anything that has a length and places."""
    if isinstance(inputs, Iterable):
        return inputs
    if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"):
        return (inputs[place] for place in range(len(inputs)))  # torch's data sets need not be iterable
    raise TypeError(f"takes one input, a list, a generator or a data set; not {type(inputs).__name__}")


def _cut(inputs: Iterable[Any], rows: int) -> Iterator[list[Any]]:
    """Lists of so many inputs; the last may be shorter."""
    rest = iter(inputs)
    while piece := list(islice(rest, rows)):
        yield piece


def _use(kept: OrderedDict[str, _Opened], key: str) -> _Opened:
    """The one of that name; the one that was not used for longest goes when there are too many."""
    kept.move_to_end(key)
    while len(kept) > _KEPT:
        kept.popitem(last=False)
    return kept[key]


def _refuse(error: Mapping[str, str], row: Row, words: Sequence[str]) -> InputRefused:
    """The error that says why a row has no prediction; `words` are those that the call may have."""
    hint = ""
    if error["code"] == "too_long":
        ways = {"truncation": "pass truncation=True", "max_seq_len": "raise max_seq_len"}
        way = next((ways[word] for word in words if word in ways), "shorten it")
        hint = f"{way}, or compile a longer shape: input_shapes={{'sequence_length': …}}"
    return InputRefused(error["message"], f"{next(iter(row.values()))!r:.60}", hint)
