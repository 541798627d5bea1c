"""The simulator of benchmarks/scale: times that can be computed by hand, and every shard exactly once."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/scale"))
from agenda import Agenda
from bucket import PAGE, Bucket, Client, SimulatedFolder, Traffic
from fleet import Fleet, draw_fate
from simulate import simulate
from workload import Job, make_inventory, make_job, make_lengths

from batchneuron.ledger.run_folder import RunFolder
from batchneuron.ledger.run_names import part_name
from batchneuron.planning.fingerprint import Fingerprint
from batchneuron.planning.forecast import Forecast
from batchneuron.planning.plan import Plan, cut_shards
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.stores.store import Draft

INSTANT = Traffic(get_s=0.0, put_s=0.0, list_s=0.0)
PUNCTUAL = Fleet(
    machines=1, cores=1, launch_s=1.0, pull_s=2.0, open_s=3.0, load_s=4.0, start_spread=0.0, replace_s=5.0
)
START_S = 1.0 + 2.0 + 3.0 + 4.0


def make_plain_job(shards, *, encode_s=0.0, device_s=10.0, write_s=0.0):
    """Shards of three rows that all take the same."""
    cut = cut_shards(make_inventory(3 * shards), 3)
    plan = Plan(cut, Ladder((Shape(1, 8),)), 8.0, Forecast(0.0, 0.0, None))
    times = [np.full(len(cut), seconds) for seconds in (encode_s, device_s, write_s)]
    return Job(plan, *times, ideal_s=device_s * len(cut))


def test_calls_are_made_in_the_order_of_their_times():
    agenda, made = Agenda(), []
    agenda.at(2.0, lambda: made.append("late"))
    agenda.at(1.0, lambda: (made.append("early"), agenda.at(0.0, lambda: made.append("at once"))))
    agenda.at(2.0, lambda: made.append(agenda.now_s))
    agenda.at(9.0, lambda: made.append("never"))

    agenda.run(until_s=5.0)

    assert made == ["early", "at once", "late", 2.0]


def test_one_core_takes_the_start_and_the_sum_of_its_shards():
    outcome = simulate(make_plain_job(37), PUNCTUAL, traffic=INSTANT)

    assert outcome.makespan_s == pytest.approx(START_S + 37 * 10.0)
    assert outcome.started_s == START_S
    assert outcome.efficiency_started == pytest.approx(1.0)
    assert (outcome.redone_share, outcome.reclaims, outcome.shards) == (0.0, 0, 37)
    assert outcome.requests["PUT"] > 37


def test_stages_overlap_but_those_of_the_last_shard_which_nobody_may_hoard():
    job = make_plain_job(5, encode_s=2.0, write_s=1.0)
    expected_s = START_S + (2.0 + 4 * 10.0 + 1.0) + (2.0 + 10.0 + 1.0)

    assert simulate(job, PUNCTUAL, traffic=INSTANT).makespan_s == pytest.approx(expected_s)
    slow_reader = make_plain_job(5, encode_s=20.0)
    expected_s = START_S + (4 * 20.0 + 10.0) + (20.0 + 10.0)
    assert simulate(slow_reader, PUNCTUAL, traffic=INSTANT).makespan_s == pytest.approx(expected_s)


def test_cores_share_the_work_and_a_slow_machine_takes_longer():
    job = make_plain_job(36)

    assert simulate(job, replace(PUNCTUAL, cores=4), traffic=INSTANT).makespan_s == pytest.approx(
        START_S + 90.0
    )
    slow = replace(PUNCTUAL, cores=4, slow_share=1.0, slow_factor=2.0)
    assert simulate(job, slow, traffic=INSTANT).makespan_s == pytest.approx(START_S + 180.0)


def test_machines_with_portions_do_nothing_twice():
    outcome = simulate(make_plain_job(96), replace(PUNCTUAL, machines=3, cores=2), traffic=INSTANT)

    assert outcome.redone_share == 0.0
    assert outcome.makespan_s == pytest.approx(START_S + 160.0)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.sampled_from([0.0, 5.0, 30.0]),
    st.booleans(),
    st.sampled_from([0, 1, 2, 37]),
)
def test_every_shard_is_committed_exactly_once_whatever_happens(
    seed, machines, reclaims, has_portions, shards
):
    fleet = Fleet(
        machines=machines,
        cores=2,
        reclaims_per_h=reclaims,
        slow_share=0.3,
        slow_factor=3.0,
        has_portions=has_portions,
    )
    job = make_plain_job(shards, encode_s=1.0, device_s=30.0, write_s=1.0)

    outcome = simulate(job, fleet, seed)  # raises where a part is missing; a name can be created only once

    assert outcome.shards == max(1, shards)
    assert 0.0 <= outcome.redone_share < 1.0 and 0.0 <= outcome.idle_share < 1.0
    assert outcome.makespan_s >= outcome.ideal_s


def test_the_same_seed_gives_the_same_run():
    fleet = Fleet(machines=3, cores=2, reclaims_per_h=10.0)
    job = make_plain_job(60, device_s=60.0)

    one, two, other = (simulate(job, fleet, seed) for seed in (1, 1, 2))

    assert replace(one, simulated_in_s=0.0) == replace(two, simulated_in_s=0.0)
    assert one.makespan_s != other.makespan_s


def test_a_reclaimed_machine_is_replaced_and_its_work_done_again():
    fleet = replace(PUNCTUAL, machines=2, reclaims_per_h=40.0, noticed_share=0.0)
    job = make_plain_job(60, device_s=40.0)

    outcome = simulate(job, fleet, traffic=INSTANT)

    assert outcome.reclaims > 0 and outcome.redone_share > 0.0
    assert outcome.makespan_s > simulate(job, replace(fleet, reclaims_per_h=0.0), traffic=INSTANT).makespan_s


def test_a_second_takes_so_many_requests_and_no_more():
    traffic = replace(INSTANT, reads_per_s=2, writes_per_s=1, first_pause_s=4.0)
    bucket = Bucket(traffic, random.Random(1))

    answered = [bucket.answer("GET", 0.5) for _ in range(5)]

    assert answered[:2] == [0.5, 0.5] and min(answered[2:]) > 0.5
    assert bucket.refused >= 3 and bucket.requests["GET"] == 5 + bucket.refused
    assert bucket.answer("PUT", 0.5) == 0.5


def test_a_listing_costs_a_request_a_page_and_answers_come_one_after_the_other():
    bucket = Bucket(replace(Traffic(), list_s=2.0, spread=0.0))
    for number in range(2 * PAGE + 1):
        bucket.add(f"data/{number:05d}", b"")
    client = Client(bucket, now_s=7.0)

    names = [entry.name for entry in client.list("data")]

    assert names == sorted(names) and len(names) == 2 * PAGE + 1
    assert bucket.requests["LIST"] == 3 and client.now_s == 13.0


def test_the_short_cut_of_the_folder_knows_what_the_names_say():
    job, client = make_plain_job(37), Client(Bucket(INSTANT))
    folder = SimulatedFolder(client)
    record = folder.create_run(Fingerprint({}), job.plan, {})
    for index in (0, 5, 36):
        name = part_name(record, index)
        assert client.create(name, Draft(Path("none"), "", {"attempt": "a", "rows": "3"}))
        folder.note_commit(record, name, 1.0)

    assert not client.create(part_name(record, 5), Draft(Path("none"), "", {}))
    assert folder.list_committed(record) == RunFolder.list_committed(folder, record) == {0, 5, 36}
    with pytest.raises(ValueError, match="no part"):
        folder.note_commit(record, "data/other.parquet", 1.0)


def test_the_work_is_the_same_however_it_is_cut_but_small_shards_waste_batches():
    fine, coarse = make_job(3_000_000, 2_000), make_job(3_000_000, 100_000)

    assert fine.plan.rows == coarse.plan.rows == 3_000_000
    assert len(fine.plan.shards) > 40 * len(coarse.plan.shards)
    assert fine.ideal_s == coarse.ideal_s
    assert coarse.ideal_s < coarse.device_s.sum() < fine.device_s.sum()


def test_lengths_are_those_of_the_corpus():
    lengths = make_lengths()

    assert lengths.min() >= 2 and lengths.max() <= 512
    assert 85 < lengths.mean() < 105 and 70 < np.median(lengths) < 80


def test_a_fate_varies_by_no_more_than_the_fleet_says():
    fleet = Fleet(reclaims_per_h=0.05)
    fates = [draw_fate(fleet, random.Random(seed)) for seed in range(200)]

    assert all(0.75 * 60 <= fate.billed_s <= 1.25 * 60 for fate in fates)
    lost = [fate for fate in fates if fate.reclaimed_s - fate.billed_s < 20 * 3600]
    assert 0.5 < len(lost) / len(fates) < 0.75  # 1 - 1/e
