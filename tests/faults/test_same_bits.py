"""A row has the same bits whoever predicts it: any number of workers, any order of the shards."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from batchneuron.backends import has_openvino
from batchneuron.planning.plan import Shard
from batchneuron.run import Watch, run_job
from tests.faults.harness import quickstart_spec, read_bits, require_whole

ROWS, SHARD_ROWS = 400, 50
THOROUGH = pytest.mark.thorough
JOB = (
    f"input.limit={ROWS}",
    f"output.shard_rows={SHARD_ROWS}",
    "input.keep=[synset]",
    "shapes={batch_size: 16, sequence_length: [16, 32, 64, 128]}",
)


@dataclass(frozen=True)
class Shuffle:
    """Shards in a random order, the same for the same seed."""

    seed: int

    def __call__(self, shards: tuple[Shard, ...]) -> Sequence[Shard]:
        return random.Random(self.seed).sample(shards, len(shards))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Predictions by task, made in this process, shard after shard."""
    made = {}
    for task in ("text-classification", "feature-extraction"):
        output = tmp_path_factory.mktemp(task)
        run_job(quickstart_spec(output, *JOB, "backend.workers=0", task=task))
        require_whole(output, ROWS)
        made[task] = read_bits(output)
    return made


def run_bits(output, workers, task="text-classification", sort_shards=None, kind="torch"):
    overrides = (f"backend.workers={workers}", f"backend.kind={kind}")
    watch = Watch(sort_shards=sort_shards) if sort_shards else None
    run_job(quickstart_spec(output, *JOB, *overrides, task=task), watch=watch)
    require_whole(output, ROWS)
    return read_bits(output)


@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=THOROUGH), pytest.param(3, marks=THOROUGH)])
def test_any_number_of_workers_gives_the_same_labels_and_scores(workers, reference, tmp_path):
    assert run_bits(tmp_path, workers) == reference["text-classification"]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=THOROUGH), pytest.param(3, marks=THOROUGH)])
def test_any_order_of_the_shards_gives_the_same_labels_and_scores(seed, reference, tmp_path):
    assert run_bits(tmp_path, 0, sort_shards=Shuffle(seed)) == reference["text-classification"]


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
@pytest.mark.parametrize("workers", [(0, 2), pytest.param((0, 1, 3), marks=THOROUGH)])
def test_any_number_of_workers_gives_the_same_embeddings_with_openvino(workers, tmp_path):
    """This process and one worker have all CPUs, two have one each, three share them."""
    made = [run_bits(tmp_path / f"{n}", n, "feature-extraction", kind="cpu") for n in workers]

    assert len(made[0]["embedding"]) == ROWS * 128 * 4
    assert all(bits == made[0] for bits in made)


@THOROUGH
def test_two_workers_in_a_random_order_give_the_same_embeddings(reference, tmp_path):
    made = run_bits(tmp_path, 2, "feature-extraction", Shuffle(4))
    assert made == reference["feature-extraction"]
    assert len(made["embedding"]) == ROWS * 128 * 4
