"""What the hub's library raises, made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError

_Error = TypeVar("_Error", bound=BaseException)


def answer(status: int) -> HfHubHTTPError:
    """The hub's answer with this HTTP status."""
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return HfHubHTTPError(f"{status} for https://hub", response=response)


def follow(error: _Error, first: BaseException) -> _Error:
    """An error that was raised while the first one was handled, which it says nothing of."""
    error.__context__, error.__suppress_context__ = first, True
    return error
