"""The request that submits a job: how many children, and what each of them is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from batchneuron.planning.freeze import Frozen

MAX_CHILDREN = 10_000  # of an array job; 1 is a plain job (Batch user guide: "Array jobs")
_SHARDS_PER_WORKER = 8  # fewer, and starting an instance takes longer than the work it is given
_NAME_CHARACTERS = 128


def size_array(shards_left: int, workers: int, most: int) -> int:
    """Children for so many shards, on instances with so many workers each: at least one, at most `most`."""
    return max(1, min(most, MAX_CHILDREN, shards_left // (workers * _SHARDS_PER_WORKER)))


def make_submission(
    frozen: Frozen, queue: str, definition: str, children: int, *, name: str, flags: Sequence[str] = ()
) -> dict[str, Any]:
    """The request of SubmitJob; the command is what follows `batchneuron` in the container."""
    request: dict[str, Any] = {
        "jobName": re.sub(r"[^A-Za-z0-9_-]", "-", name).strip("-_")[:_NAME_CHARACTERS] or "batchneuron",
        "jobQueue": queue,
        "jobDefinition": definition,
        "containerOverrides": {"command": ["run", frozen.spec, "--plan", frozen.plan, *flags]},
        "propagateTags": True,
        "tags": {"batchneuron:output": frozen.output[:256]},
    }
    if children > 1:
        request["arrayProperties"] = {"size": children}
    return request
