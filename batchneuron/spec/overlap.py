"""An output folder that the input would read: its parts would become rows of the very job that writes them.

A run folder that lies deeper in the input than its folder, or than where its glob begins, does no harm:
the listing leaves it out (`sources/listing.py`). Knows paths alone, and asks no disk what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from batchneuron.spec.located import Finding, Node

FORMATS = frozenset({"parquet", "json", "jsonl", "csv", "arrow", "feather"})
"""What `input.path` may be instead of a path, beside `data_files`."""
_S3 = "s3://"
_FILE = "file://"
_DATA, _PART = "data", "part-00000_of_00001-00000000.parquet"
Parts = tuple[str, ...]


def find_overlap(root: Node) -> Iterator[Finding]:
    """The finding that the input would read the output's parts, where it would."""
    node = root.get("output", "path")
    if node is None or not isinstance(node.value, str) or not node.value:
        return
    output = _split(node.value)
    named = next((name for name in _name_inputs(root) if _reads_parts(_split(name), output)), None)
    if named is not None:
        hint = "choose a folder beside the input, or a new one below it"
        yield Finding(node.place, ("output", "path"), f"its parts would be read as input: {named}", hint)


def _name_inputs(root: Node) -> Iterator[str]:
    """The files, folders and globs of the input, of all splits, as they are written."""
    path, files = root.get("input", "path"), root.get("input", "data_files")
    folder = path.value if path else None
    if not isinstance(folder, str) or not folder:
        return
    if files is None:
        yield folder
        return
    for _, node in files.iter_nodes():
        if isinstance(node.value, str):
            is_whole = folder in FORMATS or node.value.startswith(("/", "~")) or "://" in node.value
            yield node.value if is_whole else f"{folder}/{node.value}"


def _reads_parts(given: Parts, output: Parts) -> bool:
    """Whether a file, a folder or a glob is or reads what a run writes into `output`."""
    fixed = tuple(takewhile(lambda part: set("*?[").isdisjoint(part), given))
    rest, data = given[len(fixed) :], (*output, _DATA)
    if fixed[: len(data)] == data:
        return True
    if fixed == output:
        return not rest or len(rest) > 1 or "**" in rest
    # The listing reads run folders further down where a glob names their data (`_names_data`).
    part = (*data, _PART)
    return _DATA in rest[:-1] and len(given) == len(part) and all(map(fnmatchcase, part, given))


def _split(path: str) -> Parts:
    """The names on the way to a path, links followed, so that two ways to one place are the same."""
    if path.startswith(_S3):
        return (_S3, *(part for part in path.removeprefix(_S3).split("/") if part))
    local = Path(unquote(urlsplit(path).path) if path.startswith(_FILE) else path)
    try:
        return local.expanduser().resolve().parts
    except (OSError, RuntimeError, ValueError):  # a loop of links, a user that is not there, no text
        return local.absolute().parts
