"""What a store is, in a dictionary: the answers that every real one has to give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchneuron.stores.store import Draft, Entry


@dataclass
class ModelStore:
    """Objects by name; as much of the Store protocol as can be told without a disk."""

    objects: dict[str, bytes] = field(default_factory=dict)

    def create(self, name: str, draft: Draft) -> bool:
        content = draft.path.read_bytes()
        draft.path.unlink()
        return self.create_bytes(name, content)

    def create_bytes(self, name: str, content: bytes) -> bool:
        if name in self.objects:
            return False
        self.objects[name] = content
        return True

    def replace_bytes(self, name: str, content: bytes) -> None:
        self.objects[name] = content

    def replace_if(self, name: str, content: bytes, expected: bytes) -> bool:
        if self.objects.get(name) != expected:
            return False
        self.objects[name] = content
        return True

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def delete_many(self, names: Sequence[str]) -> None:
        for name in names:
            self.delete(name)

    def read(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def read_many(self, names: Sequence[str]) -> tuple[bytes | None, ...]:
        return tuple(self.read(name) for name in names)

    def read_sha256(self, name: str) -> str | None:
        return hashlib.sha256(self.objects[name]).hexdigest() if name in self.objects else None

    def list(self, folder: str) -> tuple[Entry, ...]:
        found = (name.rpartition("/")[2] for name in self.objects if name.rpartition("/")[0] == folder)
        return tuple(Entry(name, len(self.objects[f"{folder}/{name}"])) for name in sorted(found))
