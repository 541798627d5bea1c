"""`pipeline()` on a simulated Trn2 machine: the calling process compiles, and runs what it has compiled."""

import subprocess
import sys

import pytest

from tests.simulator.machine import install

pytestmark = pytest.mark.simulator
SOURCE = """
import sys
from batchneuron import pipeline

for length in (16, 32):
    classify = pipeline("text-classification", model=sys.argv[1], input_shapes={"sequence_length": length})
    print(classify("alpha beta")[0]["label"])
"""


def test_a_cache_of_the_user_s_own_is_left_alone(classifier, tmp_path):
    machine, theirs = install(tmp_path / "machine", "trn2.3xlarge"), tmp_path / "neffs"
    theirs.mkdir()
    (theirs / "hours.neff").write_text("of work")

    done = subprocess.run(
        [sys.executable, "-c", SOURCE, str(classifier)],
        env={**machine.environment, "TORCH_NEURONX_NEFF_CACHE_DIR": str(theirs)},
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first == second
    assert len(machine.read_log("compile")) == 2
    assert [(path.name, path.read_text()) for path in theirs.iterdir()] == [("hours.neff", "of work")]
