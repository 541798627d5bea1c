"""What is wrong with an option or a call, in words for a caller who has no spec."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from batchneuron.errors import SpecError
from batchneuron.spec.expected import Expected

_AXES = {"pixel_values": "[images, channels, height, width]"}
_TOKEN_AXES = "[rows, tokens]"


def explain_option(options: type[BaseModel], given: Mapping[str, Any], error: ValidationError) -> str:
    """`top_k: expected a whole number of at least 1, or all; got 0`.

    A value of several types has an error for each of them; what is told is what the option takes.
    """
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "value_error":
        return f"{name}: {first['ctx']['error']}"
    wanted = Expected(options.model_json_schema()).describe((name,))
    return f"{name}: expected {wanted}; got {given.get(name)!r:.80}"


def require_axes(inputs: Mapping[str, NDArray[Any]]) -> None:
    """Check that a model is called with rows.

    Raises:
        ValueError: a tensor has too few axes, or too many.
    """
    for name, tensor in inputs.items():
        axes = _AXES.get(name, _TOKEN_AXES)
        if np.ndim(tensor) != axes.count(",") + 1:
            shape = list(np.shape(tensor))
            raise ValueError(f"{name} is a tensor {axes}, and this one is {shape}: one row is a batch of one")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Mistakes that a job would find in its spec, as a ValueError: here there is none."""
    try:
        yield
    except SpecError as error:
        told = (
            f"{problem.key}: {problem.what}" + (f" ({problem.hint})" if problem.hint else "")
            for problem in error.problems
        )
        raise ValueError("; ".join(told)) from error
