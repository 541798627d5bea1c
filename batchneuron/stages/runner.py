"""One shard, on one screen: read, encode, execute, decode, write, commit.

A worker calls the three stages from three threads, so that they overlap; one after the other they give
the same part.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from batchneuron.artifacts import require_unchanged
from batchneuron.backends import open_backend
from batchneuron.backends.backend import Executable
from batchneuron.ledger.run_folder import FINGERPRINT_KEY, RunFolder
from batchneuron.planning.plan import Shard
from batchneuron.programs.padding import open_reference, require_known
from batchneuron.sources import open_source
from batchneuron.sources.reader import lose_rows
from batchneuron.sources.source import Reader, ShardRows
from batchneuron.stages.canary import is_uniform
from batchneuron.stages.decode import decode
from batchneuron.stages.encode import EncodedShard, encode, encode_in_vain, slice_rows
from batchneuron.stages.execute import Executed, Follow, must_fill, require_tokens, run_batches
from batchneuron.stages.gather import Batch, gather
from batchneuron.stages.holes import narrow, punch, sift
from batchneuron.stages.write import write_part
from batchneuron.stores import open_store
from batchneuron.tasks import open_task
from batchneuron.tasks.task import CalibratedTask, Encoder, Task
from batchneuron.workers.case import NO_CASE, Case, tell_lost
from batchneuron.workers.events import PartDone, StageSeconds
from batchneuron.workers.pulse import COMPUTING, FINISHING, READING, Place, Pulse
from batchneuron.workers.work_order import WorkOrder

_TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Encoded:
    """A shard that waits for the device."""

    data: EncodedShard
    seconds: StageSeconds
    case: Case = NO_CASE
    holes: Holes | None = None
    """None: no row was taken out."""
    trials: tuple[Trial, ...] = ()
    """Rows that may kill whoever decodes what comes of them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Some rows of the shard, as if they were all of it."""

    lo: int
    hi: int
    """Rows `lo` to `hi`, `hi` not included."""
    data: EncodedShard


@dataclass(frozen=True, slots=True)
class Holes:
    """Where rows would be that kill whoever computes them: the N items as if they were there."""

    lengths: NDArray[np.int32]
    """[N]"""
    is_hole: NDArray[np.bool_]
    """[N]"""


@dataclass(frozen=True, slots=True)
class Predicted:
    """A shard that waits to be written."""

    data: EncodedShard
    executed: Executed
    seconds: StageSeconds
    trials: tuple[Trial, ...] = ()


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
    """Whether an item has the same bits in any shape that holds it, and may gain by a longer one."""
    folder: RunFolder
    on_batch: Callable[[int], None]
    """Told the tokens of finished batches, a few times a second."""
    pulse: Pulse = field(default_factory=Pulse)
    """Where each stage writes what it has in hand."""

    def encode(self, shard: Shard, case: Case = NO_CASE) -> Encoded:
        """Read the shard's rows and turn them into items, suspects first."""
        started = time.perf_counter()
        self.pulse.mark(READING, Place(shard.index, "read", size=shard.rows))
        rows = self._read(shard, case)
        read_at = time.perf_counter()
        self._try_encoding(shard, rows, case)
        self.pulse.mark(READING, Place(shard.index, "encode", hi=shard.rows, size=shard.rows))
        data, holes = self._encode(shard, rows, case)
        trials = tuple(self._cut_out(shard, rows, case, span) for span in case.ranges_of("decode"))
        seconds = StageSeconds(read_s=read_at - started, encode_s=time.perf_counter() - read_at)
        return Encoded(data, seconds, case, holes, trials)

    def _read(self, shard: Shard, case: Case) -> ShardRows:
        """The shard's rows; nothing but rejected ones where reading kills, and damage may be skipped."""
        if case.is_deadly_to_read and self.order.spec.input.on_bad_file == "skip":
            return lose_rows(shard.rows, self.order.read_schema, tell_lost(shard, case))
        return self.reader.read(shard.slices)

    def _encode(self, shard: Shard, rows: ShardRows, case: Case) -> tuple[EncodedShard, Holes | None]:
        order = self.order
        arguments = shard, rows, order.columns, self.encoder, order.limit
        whole = encode(*arguments, case.unreadable)
        if not case.deadly:
            return whole, None
        is_hole = np.isin(whole.accepted[whole.items.rows], [rejection.row for rejection in case.deadly])
        data = encode(*arguments, (*case.unreadable, *case.deadly))
        return data, Holes(whole.items.lengths, is_hole)

    def _cut_out(self, shard: Shard, rows: ShardRows, case: Case, span: tuple[int, int]) -> Trial:
        lo, hi = span
        some = slice_rows(rows, lo, hi, (*case.unreadable, *case.deadly))
        first = shard.slices[0]  # it is not read again: of a slice no more than the rows counts
        part = Shard(shard.index, shard.row_lo + lo, (replace(first, row_hi=first.row_lo + hi - lo),))
        return Trial(lo, hi, encode(part, some, self.order.columns, self.encoder, self.order.limit))

    def _try_encoding(self, shard: Shard, rows: ShardRows, case: Case) -> None:
        """Let the suspects do their worst, one range after the other."""
        for lo, hi in case.ranges_of("encode"):
            row = lo if hi - lo == 1 else -1
            self.pulse.mark(READING, Place(shard.index, "encode", -1, lo, hi, shard.rows, row))
            some = slice_rows(rows, lo, hi, case.unreadable)
            encode_in_vain(some, self.order.columns, self.encoder, self.order.limit)

    def execute(self, encoded: Encoded) -> Predicted:
        """Run the items through the device, suspects first."""
        started = time.perf_counter()
        data, holes = encoded.data, encoded.holes
        require_tokens(data.items, self.order.request.model.config.get("vocab_size"))
        lengths = data.items.lengths if holes is None else holes.lengths
        batches = gather(lengths, self.order.ladder, spills=self.spills)
        if holes is not None:
            batches = punch(batches, holes.is_hole)
        self._try_batches(encoded, batches)
        tally = _Tally(self.on_batch)
        follow = Follow(lambda number, batch: self._mark(data, number, batch), tally.add)
        executed = run_batches(data.items, batches, self.executables, follow)
        tally.flush()
        device_s = executed.device_s
        seconds = StageSeconds(pad_s=time.perf_counter() - started - device_s, device_s=device_s)
        return Predicted(data, executed, encoded.seconds + seconds, encoded.trials)

    def _try_batches(self, encoded: Encoded, batches: Sequence[Batch]) -> None:
        """Run the suspects of one batch in its shape, and throw their outputs away."""
        suspects, data = encoded.case.suspects, encoded.data
        for lo, hi in encoded.case.ranges_of("execute"):
            assert suspects is not None
            some = narrow(batches[suspects.batch], lo, hi)

            def mark(
                _: int, batch: Batch, span: tuple[int, int] = (lo, hi), number: int = suspects.batch
            ) -> None:
                self._mark(data, number, batch, span)

            run_batches(data.items, [some], self.executables, Follow(mark))

    def _mark(
        self, data: EncodedShard, number: int, batch: Batch, span: tuple[int, int] | None = None
    ) -> None:
        """Write which batch the device gets; `span`: which of its slots, where it is not all of them."""
        row = int(data.accepted[data.items.rows[batch.picks[0]]]) if len(batch.picks) == 1 else -1
        lo, hi = span or (0, batch.rows)
        self.pulse.mark(COMPUTING, Place(data.shard.index, "execute", number, lo, hi, batch.rows, row))

    def finish(self, predicted: Predicted) -> PartDone:
        """Decode, write and commit the shard's part."""
        started = time.perf_counter()
        shard = predicted.data.shard
        data, executed, record = predicted.data, predicted.executed, self.order.record
        self._try_decoding(predicted)
        self.pulse.mark(FINISHING, Place(shard.index, "decode", hi=shard.rows, size=shard.rows))
        table = decode(data, executed, self.task)
        self.pulse.mark(FINISHING, Place(shard.index, "finish", hi=shard.rows, size=shard.rows))
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
        path, throttled = self.folder.store.scratch_file(attempt), self.folder.store.count_throttled()
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
            throttled=self.folder.store.count_throttled() - throttled,
            seconds=predicted.seconds + seconds,
            is_uniform=is_uniform(data.items, executed),
        )

    def _try_decoding(self, predicted: Predicted) -> None:
        """Decode what came back for the suspects, one range after the other, and throw it away."""
        data, shard = predicted.data, predicted.data.shard
        rows = data.accepted[data.items.rows]
        for trial in predicted.trials:
            row = trial.lo if trial.hi - trial.lo == 1 else -1
            place = Place(shard.index, "decode", -1, trial.lo, trial.hi, shard.rows, row)
            self.pulse.mark(FINISHING, place)
            is_other = (rows < trial.lo) | (rows >= trial.hi)
            if not is_other.all():
                decode(trial.data, sift(predicted.executed, is_other), self.task)


def open_runner(order: WorkOrder, on_batch: Callable[[int], None], pulse: Pulse | None = None) -> Runner:
    """A runner with its reader, tokenizer and executables loaded.

    Raises:
        ModelError: the weights or the tokenizer cannot be loaded.
        BackendError: the device cannot be used.
        ParityError: the model's outputs depend on padding; looked at here where the backend is the reference,
            with which nothing is compared before.
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
    if backend.facts.is_reference and order.spec.backend.parity_rows and order.artifacts:
        longest = order.artifacts[-1]
        load = open_reference(backend, order.spec, order.request, longest.folder)
        require_known(order.request, longest.shape.sequence_length, longest.folder, load)
    return Runner(
        order=order,
        reader=open_source(order.spec.input).open_reader(order.read_schema),
        encoder=task.open_encoder(),
        task=task,
        executables=executables,
        spills=backend.facts.is_bit_stable_across_shapes and must_fill(executables),
        folder=RunFolder(open_store(order.spec.output.path)),
        on_batch=on_batch,
        pulse=pulse or Pulse(),
    )
