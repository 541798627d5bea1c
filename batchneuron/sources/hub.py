"""Whatever `datasets` opens: hub datasets, its other formats, folders of `save_to_disk`.

The one module that imports `datasets`, and only when it is used. A worker opens the dataset again from
the cache that the parent filled; the fingerprint says whether it is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from batchneuron.errors import (
    DataError,
    SourceChanged,
    SourceNotFound,
    SourceUnavailable,
    SourceUnreadable,
)
from batchneuron.hub_silence import is_silence
from batchneuron.sources.conform import plain_schema
from batchneuron.sources.location import absolute_uri
from batchneuron.sources.reader import SliceReader
from batchneuron.sources.source import Block, FileId, FileInventory, Inventory, ShardRows
from batchneuron.spec.sections import InputSpec

_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class HubSource:
    """A split of a dataset, which counts as one file; implements `Source`."""

    path: str
    load: Callable[[], Any]
    """Opens the dataset, downloading and converting it where that is still to be done."""

    def inventory(self) -> Inventory:
        """The dataset in blocks of some thousand rows, and its schema without the features' metadata."""
        dataset = self.load()
        file = _identify(self.path, dataset)
        row_bytes = file.size_bytes // max(1, dataset.num_rows)
        blocks = tuple(
            Block(row, rows, rows * row_bytes, row)
            for row in range(0, dataset.num_rows, _BLOCK_ROWS)
            for rows in [min(_BLOCK_ROWS, dataset.num_rows - row)]
        )
        return Inventory((FileInventory(file, blocks),), plain_schema(dataset.features.arrow_schema))

    def open_reader(self, schema: pa.Schema) -> SliceReader:
        """A reader of the columns in `schema`."""
        return SliceReader(schema, self)

    def open_cursor(self, file: FileId, schema: pa.Schema) -> HubCursor:
        """A cursor over the columns of `schema`.

        Raises:
            SourceChanged: it is not the dataset that was listed.
        """
        dataset = self.load()
        now = _identify(self.path, dataset)
        if now != file:
            raise SourceChanged(
                f"the dataset changed since the run was planned: {file.version} then, {now.version} now",
                file.uri,
                "pin input.revision, or start a run in another output folder",
            )
        return HubCursor(dataset.select_columns(schema.names).with_format("arrow"))

    def verify(self, file: FileId) -> None:
        """Nothing: the cache's files are never written over, and the hub is not asked for each shard."""


def open_hub(spec: InputSpec) -> HubSource:
    """The dataset that `datasets.load_dataset` would open."""
    return HubSource(spec.path, partial(_load_dataset, spec))


def open_saved(folder: str, split: str) -> HubSource:
    """The dataset that `save_to_disk` wrote."""
    return HubSource(folder, partial(_load_saved, folder, split))


class HubCursor:
    """A place in a dataset; implements `Cursor`."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.row = 0

    def jump(self, row: int, position: int, line: int = 0) -> None:
        """Go to a row; a dataset is mapped into memory, so there is nothing to move."""
        self.row = row

    def skip(self, rows: int) -> None:
        """Pass over rows."""
        self.row += rows

    def take(self, rows: int) -> ShardRows:
        """The next rows, some thousand at most."""
        stop = min(self.row + min(rows, _BLOCK_ROWS), self._dataset.num_rows)
        table = self._dataset[self.row : stop]
        self.row = stop
        return ShardRows(table)

    def close(self) -> None:
        """Let the dataset go."""


def _identify(path: str, dataset: Any) -> FileId:
    # The fingerprint is a hash of the builder, its arguments and its input files, so every process that
    # opens the dataset finds the same one.
    version = f"{dataset._fingerprint}, {dataset.num_rows} rows"
    return FileId(f"datasets:{path}", dataset.data.nbytes, version)


def _load_dataset(spec: InputSpec) -> Any:
    with _translated(spec.path):
        import datasets

        return datasets.load_dataset(
            spec.path, name=spec.name, data_files=spec.data_files, split=spec.split, revision=spec.revision
        )


def _load_saved(folder: str, split: str) -> Any:
    with _translated(folder):
        import datasets

        saved = datasets.load_from_disk(folder)
    splits = saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}
    if split not in splits:
        raise SourceNotFound(f"no split {split!r}, but {', '.join(splits)}", folder, "set input.split")
    return splits[split]


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Load without progress bars, and turn what `datasets` raises into an error that says what to do.

    Raises:
        SourceNotFound: no such dataset, configuration, split or file.
        SourceUnavailable: the hub gives no answer.
        SourceUnreadable: the dataset is there and cannot be opened.
    """
    import datasets
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    was_silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    except (DatasetsError, HTTPError, OSError, RuntimeError, LookupError, ValueError) as error:
        raise _name_fault(error, path) from error
    finally:
        if not was_silent:
            datasets.enable_progress_bars()


def _name_fault(error: Exception, path: str) -> DataError:
    from datasets.exceptions import DatasetNotFoundError

    said, locally = _one_line(error), f"locally there is no {absolute_uri(path)}"
    if is_silence(error):
        hint = f"run it again when the hub answers; without a network it must be in the cache, and {locally}"
        return SourceUnavailable(said, path, hint)
    if isinstance(error, DatasetNotFoundError):
        return SourceNotFound(said, path, f"if it is private or gated, run `hf auth login`; {locally}")
    if isinstance(error, ConnectionError):
        return SourceNotFound(said, path, f"it is not in the cache, so a network is needed; {locally}")
    if isinstance(error, FileNotFoundError | ValueError):
        hint = "look at input.name, input.split, input.revision and input.data_files"
        return SourceNotFound(said, path, hint)
    reason = f": {_one_line(error.__cause__)}" if error.__cause__ else ""
    return SourceUnreadable(said + reason, path)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
