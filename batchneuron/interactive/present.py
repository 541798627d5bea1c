"""What transformers' pipelines take and give, for each task: calls to rows, Arrow rows to Python objects.

The predictions are those of a job; only their form is decided here. Semantics of transformers 5, and of
4.57 for question-answering, which 5 no longer has.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from batchneuron.interactive.mistakes import explain_option
from batchneuron.interactive.older_words import rename
from batchneuron.model import Model
from batchneuron.tasks.task import TaskKind
from batchneuron.tasks.zero_shot_classification import parse_labels

Row = dict[str, Any]
"""One input: the task's columns by name."""
_TOKENIZER = ("truncation", "max_length", "padding")


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one call, read."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """The task's own, validated: all of them."""
    truncation: bool | None = None
    """Whether long texts are cut; None: as transformers does for the task."""
    max_length: int | None = None
    """Where they are cut, in tokens."""
    return_tensors: bool = False
    is_listed: bool = False
    """Whether the caller named top_k, which makes a list of one label, too."""
    class_order: tuple[str, ...] = ()
    """The model's labels, where all are to come in its order: `return_all_scores` of transformers 4.57."""


@dataclass(frozen=True, slots=True)
class Convention:
    """How one task is called, and what it answers."""

    read_row: Callable[[Any, Settings], Row]
    """One input as the caller gives it."""
    show: Callable[[pa.Table, Sequence[Row], Settings], list[Any]]
    """One Python object per row, of the prediction columns and the inputs."""
    read_call: Callable[[tuple[Any, ...], dict[str, Any]], Any] = lambda args, said: _take(args, said)
    """What the inputs are; takes its own words out of the options."""
    show_one: Callable[[Any, Any, Mapping[str, Any]], Any] = lambda shown, _, __: shown
    """The answer to a single input, given that input and the call's own options."""
    is_one: Callable[[Any, Settings], bool] = lambda inputs, _: isinstance(inputs, (str, Mapping))
    """Whether the inputs are a single one."""
    own: tuple[str, ...] = _TOKENIZER
    """Words that are options here, and none of a job."""
    program_options: tuple[str, ...] = ()
    """The options that are compiled into the program; the others matter on the host alone."""
    defaults: Callable[[Model], Mapping[str, Any]] = lambda _: {}
    """Options where a job's default is another."""
    of_none: Mapping[str, Any] = field(default_factory=dict)
    """What None means, for options where it does not mean the default."""
    overflow: str = "reject"
    """What becomes of a text longer than the model takes, where the caller says nothing."""
    max_tokens: int | None = None
    """The longest window."""
    unwraps_one: bool = False
    """Whether a list of one input is answered like that input."""
    list_rows: int = 256
    """A list is done in pieces of so many rows, which bounds what is held of inputs and of outputs."""


def read_settings(kind: TaskKind, model: Model, given: Mapping[str, Any]) -> Settings:
    """The options of a call.

    Raises:
        TypeError: an option that the task does not have.
        ValueError: a value that it cannot have.
    """
    convention = CONVENTIONS[kind.name]
    options = rename(kind.name, given)
    options = {name: value for name, value in options.items() if name not in ("num_workers", "batch_size")}
    for nested in ("tokenizer_kwargs", "tokenize_kwargs"):
        options.update(options.pop(nested, None) or {})
    own = {name: options.pop(name) for name in convention.own if name in options}
    is_by_class = bool(own.get("return_all_scores")) and "top_k" not in options
    options |= {"top_k": None} if is_by_class else {}
    unknown = sorted(options.keys() - kind.options.model_fields.keys())
    if unknown:
        known = ", ".join(sorted({*convention.own, *kind.options.model_fields}))
        raise TypeError(f"{kind.name} has no option '{unknown[0]}'; it has {known}")
    written = {name: _spell(name, value) for name, value in options.items()}
    written |= {name: value for name, value in convention.of_none.items() if options.get(name, "") is None}
    asked = {name: value for name, value in written.items() if value is not None}
    try:
        validated = kind.options.model_validate({**convention.defaults(model), **asked})
    except ValidationError as error:
        raise ValueError(explain_option(kind.options, options, error)) from error
    if kind.needs_calibration(validated):
        raise ValueError("these options are calibrated over a whole data set: run a job")
    # As in a tokenizer's call: to say where to cut is to cut.
    truncation = own.get("truncation", own.get("max_length"))
    return Settings(
        options=validated.model_dump(mode="json"),
        truncation=None if truncation is None else truncation not in (False, "do_not_truncate"),
        max_length=own.get("max_length") or own.get("max_seq_len"),
        return_tensors=bool(own.get("return_tensors")),
        is_listed="top_k" in options,
        class_order=model.labels if is_by_class else (),
    )


def _token_vectors(model: Model) -> dict[str, Any]:
    """The pipeline gives the vectors of tokens, but of a sentence-transformers folder its pooled one."""
    return {} if model.sentence else {"pooling": "none", "normalize": False}


def _spell(name: str, value: Any) -> Any:
    """An option's value in a job's words."""
    match name, value:
        case "function_to_apply", "default" | "DEFAULT":
            return "auto"
        case "function_to_apply" | "aggregation_strategy", value if value is not None:
            return str(getattr(value, "value", value)).lower()
        case "targets", str():
            return [value]
        case _, tuple():
            return list(value)
        case _:
            return value


def _take(args: tuple[Any, ...], said: dict[str, Any], name: str = "inputs") -> Any:
    """The one argument there must be, given by its place or by its name."""
    given = args or tuple(said.pop(word) for word in dict.fromkeys((name, "inputs")) if word in said)
    if len(given) != 1:
        raise TypeError(f"takes one input, or one list of inputs; {len(given)} were given")
    return given[0]


def _read_text(value: Any, settings: Settings) -> Row:
    """A text, or a data set's row that has one."""
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        return {"text": value["text"]}
    if not isinstance(value, str):
        raise ValueError(f"an input is a text, not {type(value).__name__}")
    return {"text": value}


def _read_pair(value: Any, settings: Settings) -> Row:
    """A text, or two: `{"text", "text_pair"}`, or the older `[[text, text_pair]]`."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) and len(value[0]) == 2:
        return {"text": value[0][0], "text_pair": value[0][1]}
    if isinstance(value, list):
        raise ValueError('a pair of texts is given as {"text": …, "text_pair": …}, not as a list')
    row = _read_text(value, settings)
    second = value.get("text_pair") if isinstance(value, Mapping) else None
    return row if second is None else {**row, "text_pair": second}


def _read_labelled(value: Any, settings: Settings) -> Row:
    """A text; in a mapping with its own labels, which go before those of the call."""
    row = _read_text(value, settings)
    labels = value.get("candidate_labels") if isinstance(value, Mapping) else None
    if labels is None:
        return row
    is_text = isinstance(labels, str)
    if not is_text and not (isinstance(labels, list) and all(isinstance(one, str) for one in labels)):
        raise ValueError(f"candidate_labels are texts in a list, or one text with commas; not {labels!r:.80}")
    if not parse_labels(labels):
        raise ValueError("candidate_labels has no label in it")
    return {**row, "candidate_labels": parse_labels(labels)}


def _read_words(value: Any, settings: Settings) -> Row:
    """A text, or its words where the call says so."""
    if not settings.options["is_split_into_words"]:
        return _read_text(value, settings)
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise ValueError("with is_split_into_words an input is a list of words")
    return {"text": list(value)}


def _read_question(value: Any, settings: Settings) -> Row:
    """A question and its context."""
    row = {}
    for name in ("question", "context"):
        found = value.get(name) if isinstance(value, Mapping) else getattr(value, f"{name}_text", None)
        if not isinstance(found, str) or not found:
            raise ValueError(f"an input is a question and a context; this one has no {name}: {value!r:.80}")
        row[name] = found
    return row


def _read_image(value: Any, settings: Settings) -> Row:
    """A file's content or path as it is; anything else that transformers reads, as a lossless file."""
    if isinstance(value, Mapping) and "image" in value:
        value = value["image"]
    if isinstance(value, Mapping):
        return {"image": {"bytes": value.get("bytes"), "path": value.get("path")}}
    if isinstance(value, bytes):
        return {"image": {"bytes": value, "path": None}}
    if isinstance(value, Path) or (isinstance(value, str) and len(value) < 4096 and Path(value).is_file()):
        return {"image": {"bytes": None, "path": str(value)}}
    from PIL import Image
    from transformers.image_utils import load_image

    loaded = Image.fromarray(np.asarray(value)) if hasattr(value, "shape") else load_image(value)
    content = io.BytesIO()
    loaded.convert("RGB").save(content, "PNG", compress_level=0)
    return {"image": {"bytes": content.getvalue(), "path": None}}


def _call_questions(args: tuple[Any, ...], said: dict[str, Any]) -> Any:
    """One dict, or a list: from dicts, from two texts, or from the words question and context."""
    questions, contexts = said.pop("question", None), said.pop("context", None)
    if args or questions is None:
        is_pair = len(args) == 2 and all(isinstance(text, str) for text in args)
        return {"question": args[0], "context": args[1]} if is_pair else _take(args, said)
    if isinstance(questions, str) and isinstance(contexts, str):
        return {"question": questions, "context": contexts}
    if isinstance(questions, list) and isinstance(contexts, str):
        contexts = [contexts] * len(questions)
    if not isinstance(questions, list) or not isinstance(contexts, list) or len(questions) != len(contexts):
        raise ValueError("question and context are two texts, or two lists of the same length")
    return [{"question": one, "context": other} for one, other in zip(questions, contexts, strict=True)]


def _call_labels(args: tuple[Any, ...], said: dict[str, Any]) -> Any:
    """The texts; the labels may stand behind them."""
    if len(args) == 2 and "candidate_labels" not in said:
        said["candidate_labels"] = args[1]
        args = args[:1]
    return _take(args, said, "sequences")


def _call_images(args: tuple[Any, ...], said: dict[str, Any]) -> Any:
    return _take(args, said, "images")


def _show_labels(table: pa.Table, rows: Sequence[Row], settings: Settings) -> list[Any]:
    if settings.options["top_k"] != 1:
        listed = [_pick(row, "label", "score") for row in table["labels"].to_pylist()]
        for row in listed if settings.class_order else []:
            row.sort(key=lambda one: settings.class_order.index(one["label"]))
        return listed
    shown = _pick(table.to_pylist(), "label", "score")
    return [[one] for one in shown] if settings.is_listed else shown


def _show_images(table: pa.Table, rows: Sequence[Row], settings: Settings) -> list[Any]:
    return [_pick(row, "label", "score") for row in table["labels"].to_pylist()]


def _show_fills(table: pa.Table, rows: Sequence[Row], settings: Settings) -> list[Any]:
    """One list for a text with one mask, one per mask for a text with several."""
    return [fills[0] if len(fills) == 1 else fills for fills in table["fills"].to_pylist()]


def _show_entities(table: pa.Table, rows: Sequence[Row], settings: Settings) -> list[Any]:
    """Scores are NumPy's, as in transformers."""
    tokens = ("entity", "score", "index", "word", "start", "end")
    groups = ("entity_group", "score", "word", "start", "end")
    names = tokens if settings.options["aggregation_strategy"] == "none" else groups
    shown = [_pick(row, *names) for row in table["entities"].to_pylist()]
    return [[{**one, "score": np.float32(one["score"])} for one in row] for row in shown]


def _show_ranking(table: pa.Table, rows: Sequence[Row], settings: Settings) -> list[Any]:
    ranked = zip(rows, table["labels"].to_pylist(), table["scores"].to_pylist(), strict=True)
    return [{"sequence": row["text"], "labels": labels, "scores": scores} for row, labels, scores in ranked]


def _show_answers(table: pa.Table, rows: Sequence[Row], settings: Settings) -> list[Any]:
    """One answer; a list where several were asked for and found."""
    names = ("score", "start", "end", "answer")
    if settings.options["top_k"] == 1:
        return _pick(table.to_pylist(), *names)
    shown = [_pick(row, *names) for row in table["answers"].to_pylist()]
    nothing = {"score": 0.0, "start": 0, "end": 0, "answer": ""}
    return [row if len(row) > 1 else (row or [nothing])[0] for row in shown]


def _show_vectors(table: pa.Table, rows: Sequence[Row], settings: Settings) -> list[Any]:
    """Vectors of tokens [1, tokens, hidden], or one [hidden]; nested lists, or tensors."""
    column = table["embedding"].combine_chunks()
    vectors = [_read_vectors(value) for value in column]
    if not settings.return_tensors:
        return [vector.tolist() for vector in vectors]
    import torch

    return [torch.from_numpy(vector.copy()) for vector in vectors]


def _read_vectors(value: Any) -> Any:
    inner = value.values
    if not pa.types.is_fixed_size_list(inner.type):
        return inner.to_numpy()
    return inner.flatten().to_numpy().reshape(1, len(inner), -1)


def _pick(found: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """The same with keys in transformers' order."""
    return [{name: one[name] for name in names} for one in found]


def _is_image(inputs: Any, _: Settings) -> bool:
    return not isinstance(inputs, (list, tuple)) and (
        isinstance(inputs, (str, bytes, Path, Mapping))
        or hasattr(inputs, "convert")
        or hasattr(inputs, "ndim")
    )


def _is_text_or_words(inputs: Any, settings: Settings) -> bool:
    if not settings.options["is_split_into_words"]:
        return isinstance(inputs, (str, Mapping))
    return isinstance(inputs, (list, tuple)) and bool(inputs) and isinstance(inputs[0], str)


CONVENTIONS: dict[str, Convention] = {
    "text-classification": Convention(
        _read_pair,
        _show_labels,
        # transformers: a bare text is answered by a list, unless the call itself says top_k.
        show_one=lambda shown, one, said: [shown] if isinstance(one, str) and "top_k" not in said else shown,
        own=(*_TOKENIZER, "return_all_scores"),
        program_options=("function_to_apply",),
        of_none={"top_k": "all"},
    ),
    "feature-extraction": Convention(
        _read_text,
        _show_vectors,
        own=(*_TOKENIZER, "return_tensors"),
        defaults=_token_vectors,
        program_options=("pooling", "normalize", "truncate_dim"),
    ),
    "fill-mask": Convention(_read_text, _show_fills, program_options=("top_k", "targets"), unwraps_one=True),
    "token-classification": Convention(
        _read_words,
        _show_entities,
        # A list of words is answered by a list of one.
        show_one=lambda shown, one, _: shown if isinstance(one, (str, Mapping)) else [shown],
        is_one=_is_text_or_words,
        overflow="truncate",
    ),
    "zero-shot-classification": Convention(
        _read_labelled,
        _show_ranking,
        _call_labels,
        overflow="truncate",
    ),
    "question-answering": Convention(
        _read_question,
        _show_answers,
        _call_questions,
        own=("max_seq_len", "padding"),
        overflow="split",
        max_tokens=384,
        unwraps_one=True,
    ),
    "image-classification": Convention(
        _read_image,
        _show_images,
        _call_images,
        is_one=_is_image,
        own=("timeout",),
        program_options=("function_to_apply",),
        list_rows=16,  # 36 MB each, uncompressed, from a camera of 12 megapixels
    ),
}
