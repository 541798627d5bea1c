"""Calibrate: run a sample of the job's own rows once, so that every worker quantises in the same way.

Ranges that each worker measured for itself would make vectors of one run incomparable. What is measured
here becomes part of the plan, and so of the run's id.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

from batchneuron.planning.plan import Calibration, Shard
from batchneuron.planning.spread import spread_rows
from batchneuron.programs.sample import call_on_sample
from batchneuron.stages.runner import open_runner
from batchneuron.tasks.task import CalibratedTask
from batchneuron.workers.aside import Aside
from batchneuron.workers.work_order import WorkOrder

_SAMPLED_ROWS_PER_PLACE = 128


def calibrate(order: WorkOrder, shards: Sequence[Shard], aside: Aside) -> Calibration:
    """What the task measures on rows from all over the input.

    Args:
        order: the job; nothing of it is written.
        shards: all shards of the plan, as `split_at_blocks` gives them.
        aside: where to run.

    Raises:
        BatchNeuronError: whatever would stop the job itself.
    """
    return call_on_sample(
        lambda sample: functools.partial(_measure, order, sample),
        shards,
        aside,
        "calibration",
        "choose an options.dtype that needs none",
    )


def _measure(order: WorkOrder, sample: Sequence[Shard]) -> Calibration:
    runner = open_runner(order, lambda _: None)
    task = cast(CalibratedTask, runner.task)
    measured = []
    for some in spread_rows(sample, _SAMPLED_ROWS_PER_PLACE):
        data = runner.execute(runner.encode(some.shard))
        if len(data.data.accepted):
            measured.append(task.measure(data.data.items, len(data.data.accepted), data.executed.outputs))
    return task.calibrate(measured)
