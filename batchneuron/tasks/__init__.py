"""The tasks, one file each; a new task is a new file and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from batchneuron.errors import Problem, SpecError
from batchneuron.model import Model
from batchneuron.spec.inputs import TaskInputs
from batchneuron.tasks import (
    feature_extraction,
    fill_mask,
    image_classification,
    question_answering,
    text_classification,
    token_classification,
    zero_shot_classification,
)
from batchneuron.tasks.task import Encoder, Task, TaskKind, TaskOptions

KINDS: dict[str, TaskKind] = {
    kind.name: kind
    for kind in (
        feature_extraction.KIND,
        fill_mask.KIND,
        image_classification.KIND,
        question_answering.KIND,
        text_classification.KIND,
        token_classification.KIND,
        zero_shot_classification.KIND,
    )
}

OPTIONS: dict[str, type[TaskOptions]] = {name: kind.options for name, kind in KINDS.items()}
INPUTS: dict[str, TaskInputs] = {
    name: TaskInputs((*kind.inputs, *kind.optional_inputs), kind.or_options) for name, kind in KINDS.items()
}


def find_kind(name: str) -> TaskKind:
    """The task of that name.

    Raises:
        SpecError: this version does not have it.
    """
    if name not in KINDS:
        known = f"this version has {', '.join(sorted(KINDS))}"
        raise SpecError((Problem("spec", "task", f"'{name}' is not available yet", known),))
    return KINDS[name]


def open_task(
    name: str, options: Mapping[str, JsonValue], model: Model, opened: Encoder | None = None
) -> Task:
    """The task of that name, bound to a model and validated options.

    Args:
        name: a task's.
        options: its own; what is left out has its default.
        model: the one it is about.
        opened: an encoder that another task opened for the same model, in the same thread: its tokenizer or
            image processor is used, instead of opening one more.
    """
    kind = find_kind(name)
    return kind.open(model, kind.options.model_validate(dict(options)), opened)
