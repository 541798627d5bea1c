"""Every spec in `jobs/`: it is valid, and it runs, with small stand-ins for what lies behind a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from batchneuron.planning.prepare import prepare
from batchneuron.spec.parse import load_spec
from batchneuron.tasks import OPTIONS
from tests.e2e.small import ROWS, expected_columns, make_rows, save_small_model, write_like
from tests.faults.harness import REPOSITORY, read_rows, require_whole

JOBS = sorted((REPOSITORY / "jobs").glob("*.yaml"))


def name_of(job):
    return job.stem


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    """Where a user runs them: their paths are relative to it."""
    monkeypatch.chdir(REPOSITORY)


def test_there_are_jobs():
    assert "quickstart" in [job.stem for job in JOBS]


@pytest.mark.parametrize("job", JOBS, ids=name_of)
def test_a_job_is_valid_and_named_after_its_file(job):
    spec = load_spec(job, (), OPTIONS)

    assert spec.name == job.stem
    assert job.read_text().startswith("# "), "the first line says what the job is good for"


def stand_in(job: Path, folder: Path) -> list[str]:
    """`--set` values that put local things in the place of those that the spec fetches."""
    spec = load_spec(job, (), OPTIONS)
    overrides = [f"output.path='{folder / 'out'}'", "backend.artifacts=null"]
    if spec.model.id is None or not Path(spec.model.id).is_dir():
        model = save_small_model(spec.task, folder / "model")
        overrides += [f"model.id='{model}'", "model.revision=null", "model.trust_remote_code=false"]
    elif Path(spec.input.path).exists():
        return [*overrides, f"input.limit={ROWS}"]
    files = spec.input.data_files
    rows = write_like(str(files or spec.input.path), make_rows(spec), folder / "rows")
    if files is not None:
        return [*overrides, f"input.data_files='{rows}/*'", "input.limit=null"]
    return [*overrides, f"input.path='{rows}'", "input.limit=null", "input.name=null", "input.revision=null"]


@pytest.mark.e2e
@pytest.mark.parametrize("job", JOBS, ids=name_of)
def test_a_job_runs(job, tmp_path):
    overrides = stand_in(job, tmp_path)

    run_command("run", str(job), *(word for each in overrides for word in ("--set", each)))

    prepared = prepare(load_spec(job, overrides, OPTIONS))
    rows = read_rows(tmp_path / "out")
    require_whole(tmp_path / "out", ROWS)
    assert rows.column_names == expected_columns(prepared.columns, prepared.task.schema)
    predictions = rows.select(prepared.task.schema.names)
    assert predictions.schema.types == prepared.task.schema.types
    assert rows["_error"].null_count == ROWS, rows["_error"].drop_null().to_pylist()[:3]
    assert all(column.null_count == 0 for column in predictions.columns)
    assert f"{ROWS} of {ROWS}" in run_command("status", str(tmp_path / "out"))
    assert run_command("errors", str(tmp_path / "out")) == ""


def run_command(*arguments: str) -> str:
    """What a command prints, once it has ended well."""
    done = subprocess.run(
        [sys.executable, "-m", "batchneuron", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
