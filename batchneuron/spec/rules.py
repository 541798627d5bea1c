"""Rules that no single value's type can tell: between two keys, inside a text, about secrets.

Works on the document rather than on a JobSpec, so that these mistakes are found in the same round as
wrong types. Each rule looks only at values of the right type; the others are told by `problems.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from batchneuron.secrets import find_secret
from batchneuron.spec.located import Finding, Node
from batchneuron.spec.overlap import find_overlap
from batchneuron.spec.template import parse_template

_COMMIT = re.compile(r"[0-9a-f]{40}")
_INSTEAD_OF = {
    "a Hugging Face token": "log in with `hf auth login`, or set HF_TOKEN where the job runs",
    "an AWS access key": "use the default AWS credentials, or the job's role",
    "a secret key": "use the default AWS credentials, or a variable that the library reads itself",
    "a presigned URL": "use an s3:// URI and the default AWS credentials",
    "a URL with a password": "leave the password out of the URL",
}


def find_unfit_texts(root: Node) -> Iterator[Finding]:
    """Texts that must not be in a spec: secrets, and characters that no path or file can hold."""
    for path, node in root.iter_nodes():
        key = str(path[-1]) if path else ""
        texts = [key, node.value] if isinstance(node.value, str) else [key]
        if any("\0" in text or not _is_unicode(text) for text in texts):
            yield Finding(node.place, path, "holds a character that is not text")
        # Only a text can be taken for a key's value; names of columns and splits are no credentials.
        asked = [*texts, "=".join(texts)] if len(texts) == 2 else texts
        if kind := next(filter(None, map(find_secret, asked)), None):
            instead = _INSTEAD_OF.get(kind, "a spec is copied to the output: keep secrets out of it")
            yield Finding(node.place, path, f"looks like a secret ({kind})", f"remove it; {instead}")


def split_hub_id(root: Node, findings: list[Finding]) -> Node:
    """The document with `org/name@revision` taken apart into `model.id` and `model.revision`."""
    node = root.get("model", "id")
    if node is None or not isinstance(node.value, str) or "@" not in node.value or _is_local(node.value):
        return root
    name, _, revision = node.value.partition("@")
    given = root.get("model", "revision")
    if not name or not revision or "@" in revision:
        what = f"expected org/name@revision; got {node.describe()}"
        findings.append(Finding(node.place, ("model", "id"), what))
        return root
    if given is not None and isinstance(given.value, str) and given.value != revision:
        what = f"is {given.describe()}, but model.id is {node.describe()}"
        findings.append(Finding(given.place, ("model", "revision"), what, "give it in one place"))
    root = root.put(("model", "id"), replace(node, value=name))
    return root.put(("model", "revision"), replace(node, value=revision)) if given is None else root


def sort_ladder(root: Node) -> Node:
    """The document with the list of `shapes.sequence_length` in ascending order."""
    node = root.get("shapes", "sequence_length")
    rungs = _read_rungs(node)
    if node is None or not isinstance(node.value, tuple) or not rungs:
        return root
    items = tuple(item for _, item in sorted(zip(rungs, node.value, strict=True), key=lambda pair: pair[0]))
    return root.put(("shapes", "sequence_length"), replace(node, value=items))


def find_broken_rules(root: Node) -> Iterator[Finding]:
    """What is wrong between values that are each of the right type."""
    yield from _check_remote_code(root)
    yield from _check_shapes(root)
    yield from _check_columns(root)
    yield from _check_device(root)
    yield from find_overlap(root)


def _check_remote_code(root: Node) -> Iterator[Finding]:
    trust = root.get("model", "trust_remote_code")
    if trust is None or trust.value is not True:
        return
    name, revision = root.get("model", "id"), root.get("model", "revision")
    if name is not None and isinstance(name.value, str) and _is_folder(name.value):
        return
    if revision is None or not isinstance(revision.value, str) or not _COMMIT.fullmatch(revision.value):
        what = "needs model.revision to be a full commit of 40 hexadecimal digits, or model.id to be a folder"
        hint = "code is run only from a commit that cannot change"
        yield Finding(trust.place, ("model", "trust_remote_code"), what, hint)


def _check_shapes(root: Node) -> Iterator[Finding]:
    node, cap = root.get("shapes", "sequence_length"), root.get("shapes", "max_length")
    rungs = _read_rungs(node)
    if node is None or not rungs:
        return
    if twice := sorted({rung for rung in rungs if rungs.count(rung) > 1}):
        what = f"has {', '.join(map(str, twice))} more than once"
        yield Finding(node.place, ("shapes", "sequence_length"), what, "leave the repeated lengths out")
    if cap is not None and type(cap.value) is int and cap.value > max(rungs):
        what = f"is {cap.value}, but the longest of shapes.sequence_length is {max(rungs)}"
        hint = f"lower it to {max(rungs)} or leave it out, or add a longer shape"
        yield Finding(cap.place, ("shapes", "max_length"), what, hint)


def _check_columns(root: Node) -> Iterator[Finding]:
    columns = root.get("input", "columns")
    for name, node in columns.children.items() if columns else ():
        if isinstance(node.value, str):
            try:
                parse_template(node.value)
            except ValueError as error:
                yield Finding(node.place, ("input", "columns", name), str(error))


def _check_device(root: Node) -> Iterator[Finding]:
    device, kind = root.get("backend", "device"), root.get("backend", "kind")
    named = "auto" if kind is None else kind.value
    if device is not None and device.value == "cuda" and named != "torch":
        what = f"cuda goes with backend.kind: torch, and that is {named}"
        yield Finding(device.place, ("backend", "device"), what, "set backend.kind: torch")


def _read_rungs(node: Node | None) -> list[int]:
    """The lengths given for `shapes.sequence_length`; none unless all of them are numbers."""
    if node is None:
        return []
    items = node.value if isinstance(node.value, tuple) else (node,)
    rungs = [item.value for item in items if type(item.value) is int]
    return rungs if len(rungs) == len(items) else []


def _is_local(name: str) -> bool:
    """Whether a model is named by its folder rather than by its hub id."""
    return name.startswith(("/", "./", "../", "~")) or _is_folder(name)


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except OSError:  # a name that is too long, or a folder that may not be entered
        return False


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
