"""All a worker must know to do any shard of a run; goes to each worker once, when it starts."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from batchneuron.artifacts import Artifact
from batchneuron.backends.backend import CompileRequest
from batchneuron.ledger.run_record import RunRecord
from batchneuron.planning.plan import Calibration
from batchneuron.planning.shapes import Ladder
from batchneuron.spec.sections import JobSpec
from batchneuron.stages.columns import Columns
from batchneuron.stages.tokenize import Limit


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """The resolved job, without its shards."""

    spec: JobSpec
    request: CompileRequest
    columns: Columns
    read_schema: pa.Schema
    """Columns to read, and their types."""
    ladder: Ladder
    limit: Limit
    artifacts: tuple[Artifact, ...]
    """One per shape of the ladder."""
    record: RunRecord
    calibration: Calibration | None
    """What the task quantises by; None where it does not, or is being calibrated."""
