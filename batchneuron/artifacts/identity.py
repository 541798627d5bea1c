"""Everything that goes into a compiled program, the name made of it, and what changed between two.

No paths: the same model gives the same name wherever it lies. No commit either: the digest is over all
files that can change a prediction, and a commit that changes none of them compiles nothing anew.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from batchneuron.artifacts.program_sources import digest_sources
from batchneuron.backends.backend import Backend, CompileRequest
from batchneuron.planning.fingerprint import digest_json
from batchneuron.planning.shapes import Shape

Identity = Mapping[str, JsonValue]
_ALIKE = ("task", "kind", "shape")
_WORDS = {"target": "the target", "precision": "the precision", "kind": "the backend"}


def identify(backend: Backend, request: CompileRequest, shape: Shape) -> Identity:
    """What the program of one shape is made of, by name; its digest is the artifact's key."""
    facts = backend.facts
    return {
        "task": request.task,
        "options": dict(request.options),
        "model": request.model.digest,
        "kind": facts.kind,
        "target": facts.target,
        "precision": facts.precision,
        "versions": dict(facts.versions),
        "compiler_args": dict(facts.compiler_args),
        "shape": str(shape) if facts.compiles_per_shape else None,
        "program": digest_sources(backend, request),
    }


def name_identity(identity: Identity) -> str:
    """The key: 32 hex digits."""
    return digest_json(dict(identity))[:32]


def is_sibling(ours: Identity, theirs: Identity) -> bool:
    """Whether both are the same task's program of one shape, for the same kind of backend."""
    return all(ours.get(name) == theirs.get(name) for name in _ALIKE)


def list_changes(now: Identity, before: Identity) -> list[str]:
    """Why an older program does not serve, a phrase for each difference: `torch is now 2.14, was 2.13`."""
    changes: list[str] = []
    for name in now:
        new, old = now[name], before.get(name)
        if new == old:
            continue
        if name == "model":
            changes.append("the weights or the configuration of the model have changed")
        elif name == "program":
            changes.append("batchneuron's own part of the program has changed")
        elif isinstance(new, dict) and isinstance(old, dict):
            changes += _list_changed_keys(new, old)
        else:
            changes.append(_phrase(_WORDS.get(name, name), new, old))
    return changes


def _list_changed_keys(new: dict[str, JsonValue], old: dict[str, JsonValue]) -> list[str]:
    return [
        _phrase(key, new.get(key), old.get(key))
        for key in sorted(new.keys() | old.keys())
        if new.get(key) != old.get(key)
    ]


def _phrase(name: str, new: JsonValue, old: JsonValue) -> str:
    def show(value: JsonValue) -> str:
        return "not set" if value is None else str(value)

    return f"{name} is now {show(new)}, was {show(old)}"
