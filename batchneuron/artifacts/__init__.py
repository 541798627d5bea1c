"""Compiled programs on disk, addressed by everything that goes into them.

An entry is a folder of files and `artifact.json`, which holds the SHA-256 of each. It appears under its
name by one rename, is verified before it is loaded, and is built again when it does not verify.

    program_sources.py   which of this package's files can change a program
    identity.py          everything that goes into one, and the name made of it
    entry.py             artifact.json: written, read, held against the files
    locks.py             one builder at a time; nothing in use is deleted
    publish.py           appears whole, or not at all
    local.py             the user's own cache: list, find what is missing, compile
    upkeep.py            list, verify, delete
    adopt.py             for a machine without a compiler: the version of what was compiled elsewhere
    share.py             a folder or a bucket that machines share; s3_share.py is the bucket
"""

from batchneuron.artifacts.entry import find_flaw, is_intact
from batchneuron.artifacts.local import (
    Artifact,
    compile_artifact,
    default_cache,
    find_ready_shapes,
    list_artifacts,
    list_missing,
    require_unchanged,
)

__all__ = [
    "Artifact",
    "compile_artifact",
    "default_cache",
    "find_flaw",
    "find_ready_shapes",
    "is_intact",
    "list_artifacts",
    "list_missing",
    "require_unchanged",
]
