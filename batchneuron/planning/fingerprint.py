"""One digest of everything that can change a prediction, and the name of what differs.

Two runs with the same fingerprint give the same rows; a run folder takes parts of one fingerprint
only. Left out on purpose: worker counts, paths, log levels, compression.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

PROTOCOL = 1


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Named fields, and their SHA-256."""

    fields: Mapping[str, JsonValue]

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return digest_json(dict(self.fields))

    def run8(self, generation: int) -> str:
        """Eight hex digits that stand in every part's name."""
        return hashlib.sha256(f"{self.digest}|{generation}".encode()).hexdigest()[:8]


def digest_json(value: JsonValue) -> str:
    """SHA-256 of canonical JSON (sorted keys, no spaces), 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def name_differences(
    ours: Mapping[str, JsonValue], theirs: Mapping[str, JsonValue], where: str = "in the run folder"
) -> list[str]:
    """One line per field that differs, `options.top_k: 5 here, 1 in the run folder`."""
    mine, other = _flatten(dict(ours)), _flatten(dict(theirs))
    return [
        f"{name}: {_show(mine.get(name))} here, {_show(other.get(name))} {where}"
        for name in sorted(mine.keys() | other.keys())
        if json.dumps(mine.get(name)) != json.dumps(other.get(name))  # to Python, True equals 1
    ]


def _flatten(value: JsonValue, prefix: str = "") -> dict[str, JsonValue]:
    if not isinstance(value, dict) or (prefix and not value):  # `keep: {}` is not `keep: null`
        return {prefix: value}
    flat: dict[str, JsonValue] = {}
    for key, inner in value.items():
        flat.update(_flatten(inner, f"{prefix}.{key}" if prefix else key))
    return flat


def _show(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
