"""`devices`, `doctor` and `init` as a user meets them, on this machine and on simulated ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.cli import main
from batchneuron.run import load_job
from batchneuron.starter import Wish, guess_column, make_starter
from batchneuron.tasks import KINDS
from tests.simulator.machine import install


@pytest.fixture
def call(capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def call_on(tmp_path):
    """Run a command on a simulated machine: exit code, stdout."""

    def run(instance_type: str, stack: str, *arguments: str) -> tuple[int, str]:
        machine = install(tmp_path / "machine", instance_type, stack)
        done = subprocess.run(
            [sys.executable, "-m", "batchneuron", *arguments],
            env=machine.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run


def test_devices_of_a_simulated_machine(call_on):
    code, out = call_on("trn2.3xlarge", "", "devices", "--json")

    told = json.loads(out)
    assert code == 0
    assert (told["instance_type"], told["family"], told["logical_core_size"]) == ("trn2.3xlarge", "trn2", 2)
    assert [core["index"] for core in told["cores"]] == [0, 1, 2, 3]
    assert told["device_memory_bytes"] == 96 << 30
    assert told["on_demand_usd_per_hour"] is None


def test_the_doctor_finds_a_stub_and_names_the_command(call_on):
    code, out = call_on("inf2.xlarge", "stub", "doctor", "--json")

    told = json.loads(out)
    stack = next(check for check in told["checks"] if check["name"] == "stack")
    assert (code, told["is_well"], stack["state"]) == (78, False, "problem")
    assert "torch-neuronx==2.9.0.2.15.32035" in stack["fix"]


def test_the_version_names_a_stub_as_one(call_on):
    code, out = call_on("inf2.xlarge", "stub", "--version")

    assert code == 0
    assert "torch-neuronx 1.0 (a stub" in out and "neuronx-cc 1.0 (a stub" in out


@pytest.mark.parametrize("instance_type", ["inf2.xlarge", "trn2.3xlarge"])
def test_the_doctor_is_content_with_the_right_stack(call_on, instance_type):
    code, out = call_on(instance_type, "", "doctor")
    assert code == 0, out
    assert "0 problems" in out


def test_devices_and_doctor_here(call):
    code, out, _ = call("devices")
    assert code == 0 and "cpus" in out and "memory" in out

    code, out, _ = call("doctor", "--json")
    told = json.loads(out)
    assert code == (0 if told["is_well"] else 78)
    assert {"python", "libraries", "memory", "devices"} <= {check["name"] for check in told["checks"]}


def test_the_doctor_judges_a_spec(call, tmp_path, rows_folder, classifier):
    job = tmp_path / "job.yaml"
    job.write_text(
        "task: text-classification\n"
        f"model: {{id: '{classifier}'}}\n"
        f"input: {{path: '{rows_folder}', columns: {{text: text}}}}\n"
        f"output: {{path: '{tmp_path / 'out'}'}}\n"
    )
    _, out, _ = call("doctor", job)
    assert "42 rows in 3 files" in out

    code, out, _ = call("doctor", job, "--set", "input.path=nowhere.parquet")
    assert code == 78 and "no such file" in out
    assert not (tmp_path / "out").exists()

    code, _, err = call("doctor", "--set", "input.path=nowhere.parquet")
    assert code == 2 and "name the spec" in err


@pytest.mark.parametrize("task", sorted(KINDS))
def test_every_tasks_starter_is_valid(call, tmp_path, task):
    path = tmp_path / "specs" / "job.yaml"

    code, out, err = call("init", path, "--task", task)
    assert (code, out.strip()) == (0, str(path))
    assert f"next: batchneuron plan {path}" in err

    assert call("validate", path)[0] == 0
    spec = load_job(path)
    assert (spec.task, spec.model.id) == (task, KINDS[task].default_model)
    assert set(spec.input.columns) == set(KINDS[task].inputs)


def test_init_never_overwrites(call, tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("mine")

    code, out, err = call("init", path)

    assert (code, out, path.read_text()) == (2, "", "mine")
    assert "is there already" in err


def test_init_guesses_columns_and_says_so(call, tmp_path, classifier):
    source = tmp_path / "my reviews: 1.parquet"
    pq.write_table(pa.table({"id": [1], "stars": [5.0], "Body": ["fine"], "user": ["ann"]}), source)
    path = tmp_path / "job.yaml"

    code, _, err = call("init", path, "--input", source, "--model", classifier, "--output", tmp_path / "out")

    assert code == 0
    assert "guessed: input.columns.text is 'Body'" in err and "stars (double)" in err
    assert load_job(path).input.path == str(source)
    assert call("plan", path)[0] == 0


def test_init_says_when_there_is_nothing_to_guess_from(call, tmp_path):
    _, _, err = call("init", tmp_path / "a.yaml", "--input", tmp_path / "nowhere.parquet")
    assert "the input was not looked at: no such file" in err

    pq.write_table(pa.table({"n": [1]}), tmp_path / "numbers.parquet")
    _, _, err = call("init", tmp_path / "b.yaml", "--input", tmp_path / "numbers.parquet")
    assert "no column of the input fits 'text'" in err


@pytest.mark.parametrize(
    ("name", "columns", "guess"),
    [
        ("text", {"text": pa.string(), "body": pa.string()}, "text"),
        ("text", {"name": pa.string(), "Review": pa.string()}, "Review"),
        ("text", {"id": pa.int64(), "other": pa.large_string()}, "other"),
        ("text", {"id": pa.int64()}, None),
        ("context", {"question": pa.string(), "passage": pa.string()}, "passage"),
        ("image", {"label": pa.int64(), "img": pa.struct([("bytes", pa.binary())])}, "img"),
        ("image", {"path": pa.string()}, "path"),
    ],
)
def test_guesses(name, columns, guess):
    assert guess_column(name, pa.schema(list(columns.items()))) == guess


@pytest.mark.parametrize("text", ["yes", "a: b", "#x", "{a}", "s3://b/k*.parquet", "~/x", "1e3", 'a"b', "ü"])
def test_any_text_is_written_so_that_it_reads_back(tmp_path, text):
    path = tmp_path / "job.yaml"
    path.write_text(make_starter(Wish("fill-mask", model=text, output=text)).text)
    spec = load_job(path)
    assert (spec.model.id, spec.output.path) == (text, text)
