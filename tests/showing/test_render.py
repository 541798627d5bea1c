"""Records as text: what is said of shards that were done twice, of workers that died, of figures."""

import pytest

from batchneuron.run import Summary
from batchneuron.showing.render import render_summary, round_up
from batchneuron.workers.events import PartDone, RowIsolated, StageSeconds


@pytest.mark.case(25)
@pytest.mark.parametrize(
    ("twice", "said"), [(0, ""), (1, "1 shard was done twice"), (2, "2 shards were done twice")]
)
def test_work_that_was_done_twice_is_told(twice, said):
    parts = tuple(
        PartDone(index, 5, 0, 0, 9, 10, 1, "", index >= twice, StageSeconds()) for index in range(3)
    )

    lines = render_summary(Summary("out", 15, 0, 3, parts, 2.0, done_twice=twice)).splitlines()

    assert len(lines) == 2 + bool(twice)
    assert lines[1].startswith(said) and lines[-1] == "out/data"


def test_workers_that_died_are_counted_and_the_rows_named_that_killed_them():
    parts = (PartDone(0, 5, 1, 0, 9, 10, 1, "", True, StageSeconds()),)
    found = tuple(RowIsolated(0, row, "worker_crash", "it died") for row in (3, 300))

    lines = render_summary(Summary("out", 5, 2, 1, parts, 2.0, restarts=7, isolated=found)).splitlines()

    assert lines[1] == "7 workers died and were replaced; 2 rows killed them and were rejected: 3, 300"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0104, "0.02"),
        (0.011, "0.02"),
        (0.02, "0.02"),
        (0.020001, "0.03"),
        (0.096, "0.1"),
        (0.3, "0.3"),
        (0.999, "1"),
        (1.2, "2"),
        (12.0, "20"),
        (3e-06, "3e-06"),
        (0.0, "0"),
    ],
)
def test_a_difference_is_never_told_smaller_than_it_is(value, said):
    assert round_up(value) == said
