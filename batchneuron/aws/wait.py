"""Wait: until a submitted job is done. Its output says how far it is, Batch whether anyone still works."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from batchneuron.aws.clients import Aws, asking
from batchneuron.errors import (
    BackendError,
    BatchNeuronError,
    DataError,
    Incomplete,
    OutputConflict,
    OutputForbidden,
    Problem,
    SpecError,
)
from batchneuron.ledger.status import Status, follow_run

_OVER = ("SUCCEEDED", "FAILED")
_EVERY_S = 15.0
_SHOWN = 3
# Codes that another attempt would not change, and what they mean here.
_FINAL: Mapping[int, type[BatchNeuronError]] = {
    kind.exit_code: kind
    for kind in (DataError, OutputConflict, OutputForbidden, BackendError, BatchNeuronError)
}


@dataclass(frozen=True, slots=True)
class News:
    """One look at a job."""

    status: Status | None
    """None: no child has begun."""
    children: Mapping[str, int]
    """How many are in each of Batch's states."""


@dataclass(frozen=True, slots=True)
class Pause:
    """How often to look."""

    every_s: float = _EVERY_S
    rest: Callable[[float], None] = time.sleep


def wait_for_job(
    aws: Aws, job_id: str, output: str, tell: Callable[[News], None], pause: Pause | None = None
) -> Status:
    """The status of the finished run.

    Raises:
        Incomplete: the job is over, and shards are missing; submitting it again does only these.
        BatchNeuronError: as a child ended that another attempt would not help.
    """
    pause, batch = pause or Pause(), aws.open_service("batch")
    was_over = False
    for status in follow_run(output, pause.every_s, pause.rest):
        with asking(f"job {job_id}"):
            job = batch.describe_jobs(jobs=[job_id])["jobs"][0]
        tell(News(status, _count_children(job)))
        if status is not None and status.is_finished:
            return status
        is_at_work = status is not None and any(not runner.is_silent for runner in status.runners)
        if was_over and not is_at_work:  # the output was read again after Batch had said so
            with asking(f"job {job_id}"):
                failed = _list_failed(batch, job)
            raise _explain(failed, output)
        was_over = job["status"] in _OVER
    raise AssertionError("not reached: it ends with a finished run")


def _count_children(job: Mapping[str, Any]) -> Mapping[str, int]:
    summary = job.get("arrayProperties", {}).get("statusSummary") or {job["status"]: 1}
    return {state: number for state, number in summary.items() if number}


def _list_failed(batch: Any, job: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The job itself, or its failed children, as Batch describes them."""
    if not job.get("arrayProperties", {}).get("size"):
        return [job] if job["status"] == "FAILED" else []
    page = batch.list_jobs(arrayJobId=job["jobId"], jobStatus="FAILED")
    ids = [child["jobId"] for child in page["jobSummaryList"]][:100]
    return list(batch.describe_jobs(jobs=ids)["jobs"]) if ids else []


def _explain(failed: list[Mapping[str, Any]], output: str) -> BatchNeuronError:
    codes = [child.get("container", {}).get("exitCode") for child in failed]
    final = next((code for code in codes if code in (*_FINAL, SpecError.exit_code)), None)
    lines = "".join(f"\n    {_describe(child)}" for child in failed[:_SHOWN])
    if final is None:
        what = f"the job is over, and shards are missing{lines}"
        return Incomplete(what, output, "submit it again: only what is missing is done")
    what = f"a child failed in a way that another attempt does not change{lines}"
    if final == SpecError.exit_code:
        return SpecError((Problem(output, "", what),))
    return _FINAL[final](what, output, "its log says more")


def _describe(child: Mapping[str, Any]) -> str:
    container = child.get("container", {})
    index = child.get("arrayProperties", {}).get("index")
    who = "the job" if index is None else f"child {index}"
    why = container.get("reason") or child.get("statusReason") or "no reason told"
    code = container.get("exitCode")
    ended = f"exit code {code}" if code is not None else "never started"
    log = f", log stream {container['logStreamName']}" if container.get("logStreamName") else ""
    return f"{who}: {ended}, {why}{log}"
