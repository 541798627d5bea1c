"""Rebuild: the error of another process, from the plain values that crossed the border."""

from __future__ import annotations

from batchneuron.errors import BatchNeuronError
from batchneuron.workers.events import Failure


def rebuild_error(failure: Failure, where: str, hint: str = "") -> BatchNeuronError:
    """An error with the exit code and the text of one that happened in a worker."""
    known = {kind.__name__: kind for kind in _iter_kinds(BatchNeuronError)}
    kind = known.get(failure.error, BatchNeuronError)
    if failure.error not in known:
        return kind(
            f"{failure.message}\n{failure.traceback}", where, "this is a bug of ours: please report it"
        )
    return _kind_with_text(kind)(failure.message, where, hint)


def _kind_with_text(kind: type[BatchNeuronError]) -> type[BatchNeuronError]:
    """The kind itself, or the nearest above it that is built from a text."""
    while kind.__init__ is not BatchNeuronError.__init__:
        kind = kind.__mro__[1]
    return kind


def _iter_kinds(kind: type[BatchNeuronError]) -> list[type[BatchNeuronError]]:
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in _iter_kinds(child))]
