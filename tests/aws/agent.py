"""Does what Batch would: runs each submitted job once. `python -m tests.aws.agent FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import boto3

from tests.aws.account import Agent


def main(folder: Path) -> None:
    """Run the children of all jobs of all queues; those that have a folder were run before."""
    batch, agent = boto3.client("batch"), Agent(folder.absolute())
    for queue in batch.describe_job_queues()["jobQueues"]:
        jobs = batch.list_jobs(jobQueue=queue["jobQueueArn"], jobStatus="SUCCEEDED")["jobSummaryList"]
        for job in jobs:
            if not list(agent.folder.glob(f"{job['jobId'][:8]}-*")):
                codes = agent.run(job["jobId"])
                assert set(codes) == {0}, codes


if __name__ == "__main__":
    main(Path(sys.argv[1]))
