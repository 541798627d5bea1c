"""`compile` and `cache` as a user types them."""

import json
import os

import pytest
from click.testing import CliRunner

from batchneuron.artifacts import default_cache
from batchneuron.cli import cli
from batchneuron.cli.artifacts import describe_event
from batchneuron.errors import BackendError
from batchneuron.planning.shapes import Shape
from batchneuron.programs.compile import CompileEvent


@pytest.fixture
def job(tmp_path, classifier, rows_folder):
    path = tmp_path / "job.yaml"
    path.write_text(
        f"task: text-classification\nmodel: {{id: '{classifier}'}}\n"
        f"input: {{path: '{rows_folder}', columns: {{text: text}}}}\n"
        f"output: {{path: '{tmp_path / 'out'}'}}\nbackend: {{kind: torch}}\n"
    )
    return path


def call(*arguments):
    """What a command prints on stdout, and the error it ends with."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, (BackendError, SystemExit)):
        raise result.exception
    return result.stdout, result.exception


def read(*arguments):
    return json.loads(call(*arguments, "--json")[0])


def test_compile_makes_what_the_run_needs_and_says_so(job):
    first = read("compile", job)["artifacts"]
    assert [entry["how"] for entry in first] == ["compiled"]
    assert not (job.parent / "out" / "data").exists()

    again, _ = call("compile", job)

    assert again.splitlines()[0].split() == ["shape", "key", "size", "time", "how"]
    assert again.splitlines()[1].split()[1] == first[0]["key"][:8]
    assert again.splitlines()[1].endswith("reused")


def test_the_cache_lists_what_was_compiled(job):
    call("compile", job)

    (entry,) = read("cache", "ls")["entries"]

    assert entry["facts"]["task"] == "text-classification"
    assert entry["flaw"] is None
    assert entry["key"][:8] in call("cache", "ls")[0]


def test_verify_names_what_is_broken_and_deletes_it(job):
    call("compile", job)
    (folder,) = default_cache().iterdir()
    program = next(path for path in folder.iterdir() if path.name != "artifact.json")
    program.write_bytes(b"x")

    told, error = call("cache", "verify")
    assert f"{program.name} has 1 bytes" in told
    assert error.exit_code == 78
    assert "--delete" in error.hint

    record = read("cache", "verify", "--delete")
    assert (record["broken"], record["deleted"]) == (1, 1)
    assert call("cache", "verify")[1] is None


def test_gc_deletes_by_age_and_by_size(job):
    call("compile", job)
    (folder,) = default_cache().iterdir()

    assert read("cache", "gc", "--older-than", "30d", "--keep-bytes", "1G")["deleted"] == []
    os.utime(folder / "artifact.json", (1, 1))
    (entry,) = read("cache", "gc", "--older-than", "30d")["deleted"]
    assert entry["key"] == folder.name

    call("compile", job)
    assert "deleted   1 programs" in call("cache", "gc", "--keep-bytes", "0")[0]


@pytest.mark.parametrize(
    ("option", "given"), [("--older-than", "soon"), ("--older-than", "30"), ("--keep-bytes", "many")]
)
def test_a_span_or_size_that_is_none_is_refused(option, given):
    result = CliRunner().invoke(cli, ["cache", "gc", option, given])

    assert result.exit_code == 2
    assert f"'{given}' is no" in result.stderr


def test_a_lock_file_is_written_and_read(job, tmp_path, monkeypatch):
    share, lock = tmp_path / "share", tmp_path / "programs.lock"
    call("compile", job, "--lock", lock, "--set", f"backend.artifacts={share}")
    (key,) = json.loads(lock.read_text())

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    overrides = ("--set", f"backend.artifacts={share}", "--set", f"backend.artifacts_lock={lock}")
    (entry,) = read("compile", job, *overrides)["artifacts"]
    assert (entry["key"], entry["how"]) == (key, "fetched")


def test_what_cannot_be_shared_is_an_error_after_all_is_compiled(job, tmp_path):
    (tmp_path / "file").write_text("no folder")

    told, error = call("compile", job, "--set", f"backend.artifacts={tmp_path / 'file' / 'share'}")

    assert told.splitlines()[1].endswith("compiled")
    assert "not everything could be shared" in error.what


@pytest.mark.parametrize(
    ("step", "note", "line"),
    [
        ("started", "", "8x16: compiling"),
        ("started", "torch is now 3, was 2: compiling again", "8x16: torch is now 3, was 2: compiling again"),
        ("fetched", "", "8x16: fetched in 1.5 s"),
        ("warned", "not shared", "8x16: warning: not shared"),
    ],
)
def test_each_thing_that_happens_is_one_line(step, note, line):
    assert describe_event(CompileEvent(step, Shape(8, 16), "0" * 32, 1.5, note)) == line
