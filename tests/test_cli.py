"""The command line as a user meets it: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from batchneuron import run
from batchneuron.cli import cli, main
from batchneuron.sources import location
from tests.backends.planted import ignored_mask, nudge, plant


@pytest.fixture
def job(classifier, rows_folder, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        f"input: {{path: '{rows_folder}', columns: {{text: text}}}}\n"
        "backend: {workers: 0, kind: torch}\n"
        f"output: {{path: '{tmp_path / 'out'}'}}\n"
    )
    return path


@pytest.fixture
def call(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_five_mistakes_are_told_at_once(call, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "task: text-clasification\n"
        "model: {revison: main}\n"
        "input:\n"
        "  path: rows.parquet\n"
        "  colums: {text: body}\n"
        "shapes: {batch_size: many}\n"
        "output: {shard_rows: 0, path: out}\n"
    )

    code, out, err = call("validate", path)

    assert (code, out) == (2, "")
    for line, key, hint in [
        (1, "task", "did you mean 'text-classification'?"),
        (2, "model.revison", "did you mean 'revision'?"),
        (5, "input.colums", "did you mean 'columns'?"),
        (6, "shapes.batch_size", "got 'many'"),
        (7, "output.shard_rows", "at least 1"),
    ]:
        told = next(text for text in err.splitlines() if f"bad.yaml:{line}: {key}: " in text)
        assert hint in told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_while_the_spec_is_read_is_the_end_of_a_run(call, job, tmp_path, monkeypatch, number, code):
    """A scheduler may take a machine away at any time, and 143 would tell it not to try again."""
    read = run.load_job

    def read_and_be_signalled(*arguments):
        signal.raise_signal(number)
        return read(*arguments)

    monkeypatch.setattr(run, "load_job", read_and_be_signalled)

    ended, _, err = call("run", job)

    assert ended == code
    assert "Take it up again with" in err
    assert not (tmp_path / "out").exists()


def test_a_job_runs_and_prints_where_its_output_is(call, job, tmp_path):
    code, out, err = call("run", job)

    assert code == 0
    assert out.splitlines()[-1] == f"{tmp_path / 'out'}/data"
    assert "42 rows" in out and "42 rows in 1 shard" in err
    assert pq.read_table(tmp_path / "out" / "data").num_rows == 42


def test_json_is_all_there_is_on_stdout(call, job):
    _, planned, _ = call("plan", job, "--json")
    _, ran, _ = call("run", job, "--json")
    _, status, _ = call("status", json.loads(ran)["output"], "--json")

    assert json.loads(planned)["rows"] == json.loads(ran)["rows"] == json.loads(status)["rows_done"] == 42
    assert json.loads(status)["is_finished"] is True


@pytest.mark.parametrize("command", [["plan"], ["run", "--dry-run"]])
def test_plan_and_dry_run_write_nothing(call, job, tmp_path, command):
    before = sorted(tmp_path.rglob("*"))

    code, out, _ = call(command[0], job, *command[1:])

    assert code == 0
    assert "shapes" in out and "padding" in out and "to compile  1 artifact" in out
    assert "% of all slots, in a sample; " in out and "% at least with " in out
    assert sorted(tmp_path.rglob("*")) == before


def test_limit_takes_the_first_rows_and_is_part_of_the_fingerprint(call, job, tmp_path):
    assert call("run", job, "--limit", "7")[0] == 0
    assert pq.read_table(tmp_path / "out" / "data")["_row"].to_pylist() == list(range(7))

    code, _, err = call("run", job)

    assert code == 73
    assert "input.limit: null here, 7 in the run folder" in err


@pytest.mark.case(26)
def test_another_spec_is_refused_by_the_names_of_its_differences(call, job):
    call("run", job)

    code, _, err = call("run", job, "--set", "options.top_k=2", "--set", "shapes.max_length=16")

    assert code == 73
    assert "options.top_k: 2 here, 1 in the run folder" in err
    assert "shapes.max_length: 16 here, null in the run folder" in err


@pytest.mark.case(32)
def test_a_changed_input_is_named(call, classifier, tmp_path, job):
    pq.write_table(pa.table({"text": ["alpha"]}), tmp_path / "rows.parquet")
    source = ("--set", f"input.path={tmp_path / 'rows.parquet'}")
    call("run", job, *source)
    pq.write_table(pa.table({"text": ["alpha", "beta"]}), tmp_path / "rows.parquet")

    code, _, err = call("run", job, *source)

    assert code == 65
    assert "rows.parquet was" in err and "the input has changed" in err


@pytest.mark.parametrize(
    ("override", "code", "told"),
    [
        ("input.path=nowhere.parquet", 65, "nowhere.parquet: no such file"),
        ("input.columns.text=body", 65, "no column 'body' in the input"),
        ("input.columns={question: text}", 2, "has no input 'question'"),
        ("input.keep=[nothing]", 65, "no column 'nothing'"),
        ("model.id=./nowhere", 78, "no such folder"),
        ("model.id=org/name", 78, "the hub cannot be reached"),
        ("shapes.sequence_length=64", 2, "64 tokens, and the model takes 48"),
        ("backend.kind=neuron", 78, "there is no Neuron device here"),
        ("task=fill-mask", 78, "needs weights that are not there"),
        ("output.path=ftp://host/out", 75, "no store for 'ftp://'"),
    ],
)
def test_what_is_wrong_is_told_without_a_traceback(call, job, override, code, told):
    ended, out, err = call("run", job, "--set", override)

    assert (ended, out) == (code, "")
    assert told in err
    assert "Traceback" not in err


def test_a_bucket_that_cannot_be_reached_is_told_without_a_traceback(call, job, monkeypatch):
    def refuse(_bucket):
        raise OSError("AWS Error NETWORK_CONNECTION during HeadBucket operation")

    monkeypatch.setattr(location, "_bucket_filesystem", refuse)  # the real one tries for a minute

    code, _, err = call("plan", job, "--set", "input.path=s3://nobody/rows.parquet")

    assert code == 75
    assert "s3://nobody/rows.parquet: bucket 'nobody' cannot be opened" in err
    assert "Traceback" not in err


@pytest.mark.case(39)
def test_an_empty_input_is_a_valid_empty_output(call, job, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")

    code, _, _ = call("run", job, "--set", f"input.path={tmp_path / 'none.parquet'}")

    table = pq.read_table(tmp_path / "out" / "data")
    assert code == 0
    assert (table.num_rows, table.schema.names) == (
        0,
        ["_row", "text", "label", "score", "_truncated", "_error"],
    )


def test_rejected_rows_are_listed_and_the_budget_stops_the_job(call, job, tmp_path):
    pq.write_table(pa.table({"text": ["alpha", None, "beta", None, ""]}), tmp_path / "holes.parquet")
    source = ("--set", f"input.path={tmp_path / 'holes.parquet'}")

    code, _, err = call("run", job, *source)
    assert code == 65
    assert "2 of 5 rows were rejected" in err

    assert call("run", job, *source, "--set", "errors.max_rejected=2")[0] == 0
    _, out, _ = call("errors", tmp_path / "out", "--json")
    assert [json.loads(line)["row"] for line in out.splitlines()] == [1, 3]
    assert "null_input" in call("errors", tmp_path / "out", "--limit", "1")[1]


def test_a_labelled_input_keeps_its_labels_under_another_name(call, job, tmp_path):
    pq.write_table(
        pa.table({"text": ["alpha", "beta"], "label": ["good", "bad"]}), tmp_path / "known.parquet"
    )
    source = ("--set", f"input.path={tmp_path / 'known.parquet'}")

    assert "label → input_label" in call("plan", job, *source)[1]
    call("run", job, *source)
    _, out, _ = call("report", tmp_path / "out", "--against", "input_label")

    assert "of labels equal 'input_label'" in out
    assert "padding" in out and "rows/s" in out


def test_a_folder_without_a_run_is_told(call, tmp_path):
    code, out, err = call("status", tmp_path)
    assert (code, out) == (65, "")
    assert "no run in this folder" in err


def test_the_schema_is_json_and_knows_the_options(call):
    _, out, _ = call("schema")
    schema = json.loads(out)
    assert {"task", "model", "input", "output"} <= schema["properties"].keys()
    assert "top_k" in out and "pooling" in out


def test_the_version_names_the_stack(call):
    code, out, _ = call("--version")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()]
    assert names == [
        "batchneuron",
        "torch",
        "transformers",
        "openvino",
        "datasets",
        "pyarrow",
        "torch-neuronx",
        "neuronx-cc",
    ]


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_has_help(name):
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert len(cli.commands[name].help or "") > 20


class Panic(BaseException):
    """As a panic in Rust: no `Exception`."""


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Panic("index out of bounds"), 70, "this is a bug of batchneuron"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(3), 3, ""),
    ],
    ids=repr,
)
def test_what_is_no_exception_has_its_exit_code_too(call, job, monkeypatch, error, code, told):
    def fail(*_):
        raise error

    monkeypatch.setattr(run, "load_job", fail)

    ended, out, err = call("validate", job)

    assert (ended, out) == (code, "")
    assert told in err and ("Traceback" in err) == (code == 70)


@pytest.mark.case(49)
def test_a_closed_pipe_is_no_error(job):
    command = f"'{sys.executable}' -m batchneuron schema | head -n 1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ},
        check=False,
    )
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr


def test_a_program_that_ignores_the_mask_ends_with_78_and_its_figures(call, job, tmp_path, monkeypatch):
    plant(monkeypatch, bfloat16=ignored_mask)

    code, out, err = call("run", job, "--set", "backend.precision=bfloat16")

    assert (code, out) == (78, "")
    assert "planted bfloat16: the compiled program does not agree with the reference" in err
    assert "labels agree in" in err and "at least 98.0% is needed" in err
    assert "→ set backend.precision: float32" in err
    assert not (tmp_path / "out").exists()


def test_run_plan_and_report_tell_how_the_programs_agree(call, job, tmp_path, monkeypatch):
    plant(monkeypatch, bfloat16=nudge)
    half = ("--set", "backend.precision=bfloat16")
    assert "agreement   not held against the reference yet" in call("plan", job, *half)[1]

    _, _, err = call("run", job, *half)
    _, planned, _ = call("plan", job, *half)
    _, reported, _ = call("report", tmp_path / "out")

    line = "agrees with the reference: "
    assert all(line in text for text in (err, planned, reported))
    assert "labels 100.0%, scores within 0.0" in reported
