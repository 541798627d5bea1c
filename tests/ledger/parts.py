"""A plan of four shards, and parts of it; what the tests of the ledger commit."""

import pyarrow as pa

from batchneuron.ledger.finish import finish_run
from batchneuron.ledger.run_folder import FINGERPRINT_KEY
from batchneuron.ledger.run_names import part_name
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.planning.forecast import Forecast
from batchneuron.planning.plan import Plan, cut_shards
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stages.write import write_part
from batchneuron.workers.events import PartDone, StageSeconds
from tests.planning.test_plan import make_inventory

FINGERPRINT = Fingerprint({"task": "x", "options": {"top_k": 1}})
LADDER = Ladder((Shape(4, 8),))
PLAN = Plan(
    cut_shards(make_inventory([[11, 11, 11, 4], [], [5]]), 16), LADDER, 7.5, Forecast(0.25, 0.2, None)
)


def write_shard(folder, record, index, *, rejected=0, values=0, fingerprint=None):
    """A part of a shard, written but not committed."""
    rows = PLAN.shards[index].rows
    metadata = {FINGERPRINT_KEY: fingerprint or record.fingerprint, "batchneuron.rejected": str(rejected)}
    path = folder.store.scratch_file(f"{index}-{values}")
    return write_part(pa.table({"value": [values] * rows}), path, metadata, "zstd")


def commit(folder, record, index, **how):
    """Commit a shard's part; what its runner would report."""
    part = write_shard(folder, record, index, **how)
    created = folder.commit_part(record, PLAN.shards[index], part)
    return PartDone(
        shard=index,
        rows=PLAN.shards[index].rows,
        rejected=how.get("rejected", 0),
        truncated=0,
        tokens=1,
        slots=2,
        size_bytes=part.size_bytes,
        sha256=part.sha256,
        created=created,
        seconds=StageSeconds(0.1, 0.2, 0.3),
    )


def finish(folder, record, plan, done):
    return finish_run(folder, record, plan, done, folder.list_parts(record))


def path_of(folder, record, index):
    return folder.store.root / part_name(record, index)
