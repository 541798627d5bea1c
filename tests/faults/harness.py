"""The quickstart's model and rows as a job for tests, and what a run folder must look like after it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchneuron.spec.parse import parse_spec
from batchneuron.spec.sections import JobSpec
from batchneuron.tasks import OPTIONS

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "jobs/quickstart/model"
GLOSSES = REPOSITORY / "jobs/quickstart/glosses.parquet"


def quickstart_text(output: Path, task: str = "text-classification") -> str:
    """The YAML of a job over the quickstart's rows; absolute paths, so that it runs from anywhere."""
    return (
        f"task: {task}\n"
        f"model: {{id: '{MODEL}'}}\n"
        f"input: {{path: '{GLOSSES}', columns: {{text: definition}}}}\n"
        f"output: {{path: '{output}'}}\n"
        "backend: {kind: torch}\n"
    )


def quickstart_spec(output: Path, *overrides: str, task: str = "text-classification") -> JobSpec:
    """The same, parsed, with `--set` overrides."""
    return parse_spec(quickstart_text(output, task), "quickstart.yaml", overrides, OPTIONS)


def read_rows(output: Path) -> pa.Table:
    """All rows of a run, in row order."""
    return pq.read_table(output / "data").sort_by("_row")


def read_bits(output: Path) -> dict[str, bytes | list[str]]:
    """Row numbers and predictions of a run, floats as the bytes they are made of, in row order."""
    rows = read_rows(output)
    bits: dict[str, bytes | list[str]] = {"_row": rows["_row"].to_numpy().tobytes()}
    for name in {"label", "score", "embedding"} & set(rows.column_names):
        column = rows[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            column = column.flatten()
        bits[name] = column.to_pylist() if pa.types.is_string(column.type) else column.to_numpy().tobytes()
    return bits


def require_whole(output: Path, rows: int) -> None:
    """A finished run: every row once, all of `data/` in the manifest by its digest, nothing half-done."""
    manifest = json.loads((output / ".batchneuron/manifest.json").read_text())
    listed = {part["name"]: part["sha256"] for part in manifest["parts"]}
    found = {path.name: _digest(path) for path in (output / "data").iterdir()}
    assert found == listed
    assert manifest["rows"] == rows
    assert np.array_equal(read_rows(output)["_row"].to_numpy(), np.arange(rows))
    assert list((output / ".batchneuron/tmp").iterdir()) == []


def require_readable(output: Path) -> None:
    """An unfinished run: whatever is in `data/` opens, and holds the rows that its footer promises."""
    for path in (output / "data").iterdir():
        table = pq.read_table(path)
        assert table.schema.metadata[b"batchneuron.rows"].decode() == (
            f"{table['_row'][0]} to {table['_row'][-1].as_py() + 1}"
        )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
