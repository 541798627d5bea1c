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

from batchneuron.artifacts import require_unchanged
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

_TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Encoded:
    """A shard that waits for the device."""

    data: EncodedShard
    seconds: StageSeconds


@dataclass(frozen=True, slots=True)
class Predicted:
    """A shard that waits to be written."""

    data: EncodedShard
    executed: Executed
    seconds: StageSeconds


@dataclass(slots=True)
class _Tally:
    """Tokens of finished batches, told a few times a second: a fast device finishes hundreds."""

    tell: Callable[[int], None]
    tokens: int = 0
    told_s: float = 0.0

    def add(self, tokens: int) -> None:
        self.tokens += tokens
        if time.monotonic() - self.told_s > _TELL_EVERY_S:
            self.flush()

    def flush(self) -> None:
        if self.tokens:
            self.tell(self.tokens)
        self.tokens, self.told_s = 0, time.monotonic()


@dataclass(frozen=True, slots=True)
class Runner:
    """The stages of one worker, opened once and used for every shard."""

    order: WorkOrder
    reader: Reader
    encoder: Encoder
    task: Task
    executables: tuple[Executable, ...]
    spills: bool
    """Whether an item has the same bits in any shape that holds it."""
    folder: RunFolder
    on_batch: Callable[[int], None]
    """Told the tokens of finished batches, a few times a second."""

    def encode(self, shard: Shard) -> Encoded:
        """Read the shard's rows and turn them into items."""
        started = time.perf_counter()
        rows = self.reader.read(shard.slices)
        read_at = time.perf_counter()
        data = encode(shard, rows, self.order.columns, self.encoder, self.order.limit)
        seconds = StageSeconds(read_s=read_at - started, encode_s=time.perf_counter() - read_at)
        return Encoded(data, seconds)

    def execute(self, encoded: Encoded) -> Predicted:
        """Run the items through the device."""
        started = time.perf_counter()
        tally = _Tally(self.on_batch)
        executed = execute(
            encoded.data.items,
            self.order.ladder,
            self.executables,
            self.order.request.model.config.get("vocab_size"),
            tally.add,
            spills=self.spills,
        )
        tally.flush()
        device_s = executed.device_s
        seconds = StageSeconds(pad_s=time.perf_counter() - started - device_s, device_s=device_s)
        return Predicted(encoded.data, executed, encoded.seconds + seconds)

    def finish(self, predicted: Predicted) -> PartDone:
        """Decode, write and commit the shard's part."""
        started = time.perf_counter()
        data, executed, record = predicted.data, predicted.executed, self.order.record
        table = decode(data, executed, self.task)
        decoded_at = time.perf_counter()
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
        seconds = StageSeconds(decode_s=decoded_at - started, write_s=time.perf_counter() - decoded_at)
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
            seconds=predicted.seconds + seconds,
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
    for artifact in order.artifacts:
        require_unchanged(artifact)
    executables = tuple(
        backend.load(artifact.folder, artifact.shape, order.request) for artifact in order.artifacts
    )
    return Runner(
        order=order,
        reader=open_source(order.spec.input).open_reader(order.read_schema),
        encoder=task.open_encoder(),
        task=task,
        executables=executables,
        spills=backend.facts.is_bit_stable_across_shapes,
        folder=RunFolder(open_store(order.spec.output.path)),
        on_batch=on_batch,
    )
