"""A job's files on a node: programs and model are taken from the driver where the node has none.

They travel through Ray's object store: it is there on every cluster, copies between nodes by itself, and
holds each file once per node however many actors want it. What arrives is held against the SHA-256 that the
artifact or the model was made with, and kept in the node's own cache.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from batchneuron.artifacts import Artifact, default_cache, is_intact, require_unchanged
from batchneuron.artifacts.entry import INDEX, Entry, seal_entry
from batchneuron.artifacts.locks import try_build_lock
from batchneuron.artifacts.publish import make_scratch, prepare_cache
from batchneuron.artifacts.share import fetch
from batchneuron.engines.ray_letters import MODEL, Parcel
from batchneuron.errors import BackendError, BatchNeuronError, ModelError
from batchneuron.model import Model, digest_files, list_files
from batchneuron.user_cache import user_cache
from batchneuron.workers.work_order import WorkOrder

Ask = Callable[[str], Parcel]
Stamps = Sequence[tuple[str, int, int]]
_POLL_S = 0.2


def stamp_model(model: Model) -> Stamps:
    """Name, size and time of each file that can change a prediction; none where there are none."""
    files = list_files(model.root, with_code=model.trust_remote_code)
    stats = [(path.relative_to(model.root).as_posix(), path.stat()) for path in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def pack_files(order: WorkOrder, name: str) -> Parcel:
    """References to the files that a node wants, put into the object store."""
    import ray

    if name == MODEL:
        model = order.request.model
        root = model.root
        paths = list_files(root, with_code=model.trust_remote_code)
    else:
        root = next(artifact.folder for artifact in order.artifacts if artifact.key == name)
        paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): ray.put(path.read_bytes()) for path in paths}


def localise(order: WorkOrder, model_files: Stamps, ask: Ask) -> WorkOrder:
    """The order with the folders that its files have on this node.

    Raises:
        BackendError: the node's cache cannot be written, or an artifact does not arrive whole.
        ModelError: the model does not arrive whole.
    """
    folders = {artifact.folder: artifact for artifact in order.artifacts}
    found = {folder: _find_artifact(artifact, ask) for folder, artifact in folders.items()}
    artifacts = tuple(replace(found[artifact.folder], shape=artifact.shape) for artifact in order.artifacts)
    request = replace(order.request, model=_find_model(order.request.model, model_files, ask))
    return replace(order, artifacts=artifacts, request=request)


@dataclass(frozen=True, slots=True)
class _Parcels:
    """The driver's artifacts, as a node fetches them."""

    parcel: Parcel
    location: str = "the driver"

    def read_index(self, key: str) -> bytes | None:
        """The artifact.json."""
        return _open(self.parcel, INDEX)

    def download(self, entry: Entry, folder: Path) -> None:
        """Write the files."""
        _write(self.parcel, entry.files, folder)


def _find_artifact(artifact: Artifact, ask: Ask) -> Artifact:
    """The artifact where the driver has it, if that is on a disk of this node's too, or in its own cache."""
    with contextlib.suppress(BatchNeuronError):
        require_unchanged(artifact)
        return artifact
    own = Artifact(artifact.shape, default_cache() / artifact.key)
    prepare_cache(own.folder.parent)
    while not is_intact(own.folder):
        lock = try_build_lock(own.folder)
        if lock is None:
            time.sleep(_POLL_S)  # another actor of this node is at it
            continue
        try:
            fetched = fetch(_Parcels(ask(artifact.key)), own, None)
        finally:
            lock.release()
        if not fetched.is_here:
            raise BackendError(f"an artifact did not arrive whole: {fetched.note}", str(own.folder))
    return replace(own, seal=seal_entry(own.folder))


def _find_model(model: Model, stamps: Stamps, ask: Ask) -> Model:
    """The model where the driver has it, if that is on a disk of this node's too, or in its own cache."""
    with contextlib.suppress(OSError):
        if model.root.is_dir() and list(stamp_model(model)) == list(stamps):
            return model
    own = user_cache() / "models" / model.digest
    prepare_cache(own.parent)
    while not own.is_dir():
        lock = try_build_lock(own)
        if lock is None:
            time.sleep(_POLL_S)
            continue
        try:
            if not own.is_dir():
                _fetch_model(model, own, ask(MODEL))
        finally:
            lock.release()
    return replace(model, folder=own / model.folder.relative_to(model.root))


def _fetch_model(model: Model, own: Path, parcel: Parcel) -> None:
    scratch = make_scratch(own)
    try:
        _write(parcel, parcel, scratch)
        if digest_files(scratch, with_code=model.trust_remote_code) != model.digest:
            raise ModelError("the model did not arrive whole", str(own), "run it again")
        scratch.rename(own)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(parcel: Parcel, names: Parcel | dict[str, object] | Sequence[str], folder: Path) -> None:
    for name in names:
        content = _open(parcel, name)
        if content is None or ".." in PurePosixPath(name).parts:
            continue  # whoever verifies the folder finds that it is missing
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _open(parcel: Parcel, name: str) -> bytes | None:
    import ray

    if name not in parcel:
        return None
    content: bytes = ray.get(parcel[name])
    return content
