"""Where this user's machine keeps what can be made again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def user_cache() -> Path:
    """`~/.cache/batchneuron`, or below XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "batchneuron"


def find_entry(folder: str, *parts: str) -> Path:
    """Where a record is kept that depends on these parts and on nothing else."""
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return user_cache() / folder / f"{name}.json"


def write_entry(path: Path, record: Any) -> None:
    """Keep it; a cache that cannot be written only means that the next one takes as long."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(record, file)
        Path(file.name).replace(path)
    except OSError:
        return


def read_entry(path: Path) -> Any:
    """The record that is kept there; None for none, or for what is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
