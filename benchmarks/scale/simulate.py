"""Simulate: a job on a fleet, from asking for the machines to the last of them letting go."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace

from agenda import Agenda
from bucket import Bucket, Client, SimulatedFolder, Traffic
from fleet import Fleet, draw_fate
from machine import Machine, Site
from workload import Job

from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.workers.ticket import Portion, Ticket

PUT_USD, GET_USD = 5.0e-6, 0.4e-6
"""S3 standard, us-east-1 list prices: PUT and LIST, GET and HEAD; DELETE is free."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job on a fleet."""

    cores: int
    shards: int
    shard_s: float
    """Of the device, on the mean."""
    ideal_s: float
    """All work, every batch full, spread over all cores; no start, no wait."""
    makespan_s: float
    """From asking for the machines to the last commit."""
    started_s: float
    """When the workers of the first machines were ready, on the mean."""
    redone_share: float
    """Of the device's time: for parts that were lost or that another had made first."""
    idle_share: float
    """Of the cores' time that was paid for: the device had nothing to do."""
    tail_s: float
    """From 99 % of the commits to the last."""
    reclaims: int
    machine_h: float
    requests: dict[str, int]
    refused: int
    requests_usd: float
    busiest: int
    """Requests of the second that had most."""
    simulated_in_s: float

    @property
    def efficiency(self) -> float:
        """The ideal makespan as a share of the real one."""
        return self.ideal_s / self.makespan_s

    @property
    def efficiency_started(self) -> float:
        """The same, counted from when the machines had started."""
        return self.ideal_s / (self.makespan_s - self.started_s)


def simulate(job: Job, fleet: Fleet, seed: int = 1, traffic: Traffic | None = None) -> Outcome:
    """Run the job to its end."""
    begun, dice = time.perf_counter(), random.Random(seed)
    random.seed(seed)  # what the hand-out draws from
    agenda, bucket = Agenda(), Bucket(traffic or Traffic(), random.Random(seed + 1))
    folder = SimulatedFolder(Client(bucket))
    record = folder.create_run(Fingerprint({"seed": seed}), job.plan, {})
    site, machines = Site(agenda, bucket, job, record), []

    def ask_machine(ticket: Ticket) -> None:
        fate = draw_fate(fleet, dice)
        machines.append(Machine(site, fate, fleet.cores, ticket, agenda.now_s, replace_machine))

    def replace_machine(lost: Machine) -> None:
        if len(bucket.committed) < len(job.plan.shards):
            ticket = replace(lost.ticket, attempt=lost.ticket.attempt + 1)
            agenda.at(agenda.now_s + fleet.replace_s, lambda: ask_machine(ticket))

    for number in range(fleet.machines):
        portion = Portion(number, fleet.machines) if fleet.has_portions else None
        ask_machine(Ticket(portion))
    first = list(machines)
    agenda.run()
    if len(bucket.committed) != len(job.plan.shards):
        raise AssertionError(f"{len(bucket.committed)} of {len(job.plan.shards)} shards were committed")
    started_s = sum(machine.fate.opened_s + machine.fate.load_s for machine in first) / len(first)
    return _sum_up(site, machines, started_s, fleet, time.perf_counter() - begun)


def _sum_up(
    site: Site, machines: list[Machine], started_s: float, fleet: Fleet, simulated_in_s: float
) -> Outcome:
    job, bucket = site.job, site.bucket
    commits = sorted(bucket.committed.values())
    busy_s = sum(machine.pace.busy_s for machine in machines)
    billed_s = sum(machine.billed_s for machine in machines)
    dear = bucket.requests["PUT"] + bucket.requests["LIST"]
    cheap = bucket.requests["GET"] + bucket.requests["HEAD"]
    return Outcome(
        cores=fleet.all_cores,
        shards=len(job.plan.shards),
        shard_s=float(job.device_s.mean()),
        ideal_s=job.ideal_s / fleet.all_cores,
        makespan_s=commits[-1],
        started_s=started_s,
        redone_share=sum(machine.pace.wasted_s for machine in machines) / busy_s,
        idle_share=1 - busy_s / (billed_s * fleet.cores),
        tail_s=commits[-1] - commits[int(0.99 * (len(commits) - 1))],
        reclaims=sum(machine.was_lost for machine in machines),
        machine_h=billed_s / 3600,
        requests=dict(bucket.requests),
        refused=bucket.refused,
        requests_usd=dear * PUT_USD + cheap * GET_USD,
        busiest=bucket.busiest,
        simulated_in_s=simulated_in_s,
    )
