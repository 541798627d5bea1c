"""A store over a bucket whose requests can be tampered with; the fixtures are in `conftest.py`."""

import hashlib
from dataclasses import dataclass

from batchneuron.stores.s3 import S3Store
from batchneuron.stores.store import Draft
from tests.stores.s3_faults import Faults

PART = "data/part-00000"


@dataclass
class Rig:
    """A store whose requests can be tampered with, and how long it rested."""

    store: S3Store
    faults: Faults
    rests: list[float]

    def draft(self, content=b"content", **tags):
        path = self.store.scratch_file(f"{len(list(self.store.scratch.folder.iterdir()))}")
        path.write_bytes(content)
        return Draft(path, hashlib.sha256(content).hexdigest(), tags)

    def create(self, content=b"content", **tags):
        return self.store.create(PART, self.draft(content, **tags))


def put_foreign(bucket, content=b"foreign", **metadata):
    bucket.Object(f"run/{PART}").put(Body=content, Metadata=metadata)


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())
