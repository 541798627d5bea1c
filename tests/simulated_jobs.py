"""Jobs over the tiny classifier, run by the real command line on simulated Neuron machines."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.faults.harness import GLOSSES, MODEL, REPOSITORY, read_rows
from tests.simulator.machine import Machine

REAL = ("-m", "batchneuron")
LIGHT = (str(REPOSITORY / "tests/simulator/light.py"),)
ROWS = 42
# Number of cores; the light program's first batches wait until so many are claimed.
WAIT_FOR = "LIGHT_WAIT_FOR_CORES"


@dataclass(frozen=True)
class Ended:
    """A run that is over."""

    code: int
    stderr: str
    output: Path

    @property
    def rows(self) -> pa.Table:
        """All rows, in row order."""
        return read_rows(self.output)

    @property
    def manifest(self) -> dict[str, object]:
        return json.loads((self.output / ".batchneuron/manifest.json").read_text())

    def require_whole(self, rows: int = ROWS) -> None:
        """It ended well, and every row is there once."""
        assert self.code == 0, self.stderr
        assert self.rows["_row"].to_pylist() == list(range(rows))


@dataclass(frozen=True)
class JobFolder:
    """Where a job's spec, outputs and artifacts are; artifacts are kept from run to run."""

    folder: Path
    text: str

    def run(
        self,
        machine: Machine,
        output: str,
        *overrides: str,
        program: tuple[str, ...] = REAL,
        **variables: str,
    ) -> Ended:
        """`batchneuron run` on a machine."""
        spec, path = self.folder / "job.yaml", self.folder / output
        spec.write_text(self.text)
        words = [word for each in (f"output.path={path}", *overrides) for word in ("--set", each)]
        done = subprocess.run(
            [sys.executable, *program, "run", str(spec), *words],
            env={
                **machine.environment,
                "PYTHONPATH": f"{machine.environment['PYTHONPATH']}:{REPOSITORY}",
                "XDG_CACHE_HOME": str(self.folder / "cache"),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=600,
        )
        return Ended(done.returncode, done.stdout + done.stderr, path)


def make_tiny_job(folder: Path, model: Path, rows: Path) -> JobFolder:
    """42 rows, seven shards, two shapes, float32."""
    return JobFolder(
        folder,
        "task: text-classification\n"
        f"model: {{id: '{model}'}}\n"
        f"input: {{path: '{rows}', columns: {{text: text}}}}\n"
        "shapes: {batch_size: 4, sequence_length: [16, 48]}\n"
        "backend: {precision: float32}\n"
        "output: {path: out, shard_rows: 6}\n",
    )


def make_light_job(folder: Path) -> JobFolder:
    """Rows of the quickstart for `LIGHT`: no model is loaded."""
    return JobFolder(
        folder,
        "task: text-classification\n"
        f"model: {{id: '{MODEL}'}}\n"
        f"input: {{path: '{GLOSSES}', columns: {{text: definition}}}}\n"
        "shapes: {batch_size: 8, sequence_length: [64, 128]}\n"
        "backend: {parity_rows: 0}\n"
        "output: {path: out}\n",
    )


def require_equal(ours: pa.Table, theirs: pa.Table) -> None:
    """The same labels, and scores that differ by rounding only."""
    assert ours["label"].to_pylist() == theirs["label"].to_pylist()
    assert np.allclose(ours["score"].to_numpy(), theirs["score"].to_numpy(), atol=1e-5)
