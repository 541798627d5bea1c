"""One shard, on one screen: read, encode, execute, decode, write, commit.

A worker calls the three stages from three threads, so that they overlap; `run` calls them one after
the other, which gives the same part.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from batchneuron.backends import open_backend
from batchneuron.backends.backend import Executable
from batchneuron.decode import decode
from batchneuron.encode import EncodedShard, encode
from batchneuron.events import PartDone, StageSeconds
from batchneuron.execute import Executed, execute
from batchneuron.plan import Shard
from batchneuron.run_folder import FINGERPRINT_KEY, RunFolder
from batchneuron.sources import open_source
from batchneuron.sources.source import Reader
from batchneuron.stores import open_store
from batchneuron.tasks import open_task
from batchneuron.tasks.task import CalibratedTask, Encoder, Task
from batchneuron.work_order import WorkOrder
from batchneuron.write import write_part


@dataclass(frozen=True, slots=True)
class Encoded:
    """A shard that waits for the device."""

    data: EncodedShard
    encode_s: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """A shard that waits to be written."""

    data: EncodedShard
    executed: Executed
    encode_s: float
    execute_s: float


@dataclass(frozen=True, slots=True)
class Runner:
    """The stages of one worker, opened once and used for every shard."""

    order: WorkOrder
    reader: Reader
    encoder: Encoder
    task: Task
    executables: tuple[Executable, ...]
    folder: RunFolder
    on_batch: Callable[[int], None]

    def encode(self, shard: Shard) -> Encoded:
        """Read the shard's rows and turn them into items."""
        started = time.perf_counter()
        rows = self.reader.read(shard.slices)
        data = encode(shard, rows, self.order.columns, self.encoder, self.order.limit)
        return Encoded(data, time.perf_counter() - started)

    def execute(self, encoded: Encoded) -> Predicted:
        """Run the items through the device."""
        started = time.perf_counter()
        vocabulary = self.order.request.model.config.get("vocab_size")
        executed = execute(encoded.data.items, self.order.ladder, self.executables, vocabulary, self.on_batch)
        return Predicted(encoded.data, executed, encoded.encode_s, time.perf_counter() - started)

    def finish(self, predicted: Predicted) -> PartDone:
        """Decode, write and commit the shard's part."""
        started = time.perf_counter()
        data, executed, record = predicted.data, predicted.executed, self.order.record
        table = decode(data, executed, self.task)
        rejected = data.shard.rows - table["_error"].null_count
        attempt = uuid.uuid4().hex
        metadata = {
            FINGERPRINT_KEY: record.fingerprint,
            "batchneuron.model": self.order.request.model.id,
            "batchneuron.model_commit": self.order.request.model.commit or self.order.request.model.digest,
            "batchneuron.shard": f"{data.shard.index} of {record.shards}",
            "batchneuron.rows": f"{data.shard.row_lo} to {data.shard.row_hi}",
            "batchneuron.rejected": str(rejected),
            "batchneuron.attempt": attempt,
        }
        path = self.folder.store.scratch_file(attempt)
        part = write_part(table, path, metadata, self.order.spec.output.compression)
        created = self.folder.commit_part(record, data.shard, part)
        return PartDone(
            shard=data.shard.index,
            rows=data.shard.rows,
            rejected=rejected,
            truncated=int(data.truncated.sum()),
            tokens=int(data.items.lengths.sum()),
            slots=executed.slots,
            size_bytes=part.size_bytes,
            sha256=part.sha256,
            created=created,
            seconds=StageSeconds(predicted.encode_s, predicted.execute_s, time.perf_counter() - started),
        )

    def run(self, shard: Shard) -> PartDone:
        """The whole way of one shard."""
        return self.finish(self.execute(self.encode(shard)))


def open_runner(order: WorkOrder, on_batch: Callable[[int], None]) -> Runner:
    """A runner with its reader, tokenizer and executables loaded.

    Raises:
        ModelError: the weights or the tokenizer cannot be loaded.
        BackendError: the device cannot be used.
    """
    backend = open_backend(order.spec)
    task = open_task(order.request.task, order.request.options, order.request.model)
    if order.calibration is not None:
        task = cast(CalibratedTask, task).with_calibration(order.calibration)
    executables = tuple(
        backend.load(artifact.folder, artifact.shape, order.request) for artifact in order.artifacts
    )
    return Runner(
        order=order,
        reader=open_source(order.spec.input).open_reader(order.read_schema),
        encoder=task.open_encoder(),
        task=task,
        executables=executables,
        folder=RunFolder(open_store(order.spec.output.path)),
        on_batch=on_batch,
    )
