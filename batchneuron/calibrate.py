"""Calibrate: run a sample of the job's own rows once, so that every worker quantises in the same way.

Ranges that each worker measured for itself would make vectors of one run incomparable. What is measured
here becomes part of the plan, and so of the run's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import multiprocess

from batchneuron.backends.backend import Core
from batchneuron.errors import WorkerFailed
from batchneuron.events import Failure
from batchneuron.plan import Calibration, Shard, head_slices, sample_shards
from batchneuron.runner import open_runner
from batchneuron.supervise import rebuild_error
from batchneuron.tasks.task import CalibratedTask
from batchneuron.work_order import WorkOrder
from batchneuron.worker import attempt, own_process

_SAMPLED_SHARDS = 16
_SAMPLED_ROWS_PER_SHARD = 128


def calibrate(order: WorkOrder, shards: Sequence[Shard], core: Core | None) -> Calibration:
    """What the task measures on rows from all over the input.

    Args:
        order: the job; nothing of it is written.
        shards: all shards of the plan.
        core: where to run, in a process of its own; None: in this process.

    Raises:
        BatchNeuronError: whatever would stop the job itself.
    """
    sample = sample_shards(shards, _SAMPLED_SHARDS)
    if core is None:
        return _measure(order, sample)
    ours, theirs = multiprocess.get_context("spawn").Pipe()
    process = multiprocess.get_context("spawn").Process(
        target=_main, args=(order, sample, core, theirs), daemon=True, name="batchneuron-calibrate"
    )
    process.start()
    theirs.close()
    try:
        measured: Calibration | Failure = ours.recv()
    except EOFError as error:
        raise WorkerFailed("the process that calibrates died", hint="run it again") from error
    finally:
        process.join()
    if isinstance(measured, Failure):
        raise rebuild_error(measured, "calibration")
    return measured


def _main(order: WorkOrder, sample: Sequence[Shard], core: Core, connection: Any) -> None:
    own_process(core)
    connection.send(attempt(lambda: _measure(order, sample)))


def _measure(order: WorkOrder, sample: Sequence[Shard]) -> Calibration:
    runner = open_runner(order, lambda _: None)
    task = cast(CalibratedTask, runner.task)
    measured = []
    for shard in sample:
        head = replace(shard, slices=head_slices(shard, _SAMPLED_ROWS_PER_SHARD))
        data = runner.execute(runner.encode(head))
        if len(data.data.accepted):
            measured.append(task.measure(data.data.items, len(data.data.accepted), data.executed.outputs))
    return task.calibrate(measured)
