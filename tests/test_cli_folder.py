"""verify, gc, errors --retry-spec and run --overwrite as a user meets them: words and exit codes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.cli import main


@pytest.fixture
def call(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def job(classifier, tmp_path):
    pq.write_table(pa.table({"text": ["alpha", None, "beta gamma", "mu"] * 5}), tmp_path / "rows.parquet")
    path = tmp_path / "job.yaml"
    path.write_text(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        f"input: {{path: '{tmp_path / 'rows.parquet'}'}}\n"
        "shapes: {batch_size: 4, sequence_length: 8}\n"
        "errors: {max_rejected: 0.5}\n"
        "backend: {workers: 0, kind: torch}\n"
        f"output: {{path: '{tmp_path / 'out'}', shard_rows: 6}}\n"
    )
    return path


def test_the_life_of_a_folder(call, job, tmp_path):
    out = tmp_path / "out"
    assert call("run", job)[0] == 0

    code, said, _ = call("verify", out, "--replay", "10%")
    assert code == 0
    assert "whole" in said and "20 rows in 4 parts, each row once; 5 rejected" in said
    assert "every bit the same" in said
    assert json.loads(call("verify", out, "--json")[1])["is_whole"] is True

    parts = sorted((out / "data").iterdir())
    parts[0].unlink()
    parts[1].write_bytes(b"PAR1")
    code, said, _ = call("verify", out)
    assert code == 73
    assert "2 problems" in said and "run the job again" in said and f"rm {parts[1]}" in said
    code, _, err = call("run", job)
    assert code == 73 and f"rm {parts[1]}" in err
    parts[1].unlink()
    assert call("verify", out)[0] == 75
    assert call("run", job)[0] == 0
    assert call("verify", out)[0] == 0


def test_another_job_is_refused_and_the_flag_is_named(call, job, tmp_path):
    assert call("run", job)[0] == 0
    code, _, err = call("run", job, "--set", "options.top_k=2")
    assert code == 73 and "--overwrite" in err

    (tmp_path / "out/data/part-00000_of_00004-00000000.parquet").write_text("left")
    assert call("run", job, "--set", "options.top_k=2", "--overwrite")[0] == 0
    code, said, _ = call("gc", tmp_path / "out", "--dry-run")
    assert code == 0 and "would be removed: 1 report of another run's runner" in said
    assert "removed" in call("gc", tmp_path / "out")[1]
    assert "nothing to remove" in call("gc", tmp_path / "out")[1]


def test_rejected_rows_become_a_job(call, job, tmp_path):
    call("run", job)

    code, said, _ = call("errors", tmp_path / "out", "--retry-spec", tmp_path / "retry.yaml")

    assert code == 0
    assert said.startswith("5 rejected rows in ") and f"batchneuron run {tmp_path / 'retry.yaml'}" in said
    assert call("validate", tmp_path / "retry.yaml")[0] == 0


@pytest.mark.parametrize("command", ["verify", "gc", "status", "errors"])
def test_a_folder_that_is_none_of_ours(call, tmp_path, command):
    for folder in (tmp_path, tmp_path / "nowhere"):
        code, _, err = call(command, folder)
        assert code == 65
        assert f"{folder}: no run in this folder" in err and "output.path" in err

    (tmp_path / ".batchneuron").mkdir()
    (tmp_path / ".batchneuron/run.json").write_text("{}")
    code, _, err = call(command, tmp_path)
    assert code == 73 and "not what batchneuron wrote" in err


@pytest.mark.parametrize("wish", ["some", "-1", "101%", "1.5"])
def test_a_replay_of_nonsense_is_a_usage_error(call, tmp_path, wish):
    assert call("verify", tmp_path, "--replay", wish)[0] == 2
