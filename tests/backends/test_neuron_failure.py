"""A compiler's failure: the end of its log, what its exit code means, and where to read on."""

import pytest

from batchneuron.backends.neuron_failure import LOG, describe_failure
from batchneuron.errors import CompileError
from batchneuron.planning.shapes import Shape


def fail(folder, text, log=""):
    if log:
        (folder / "deep").mkdir()
        (folder / "deep" / LOG).write_text(log)
    error = describe_failure(RuntimeError(text), Shape(8, 128), folder)
    assert type(error) is CompileError
    return error


def test_the_end_of_the_log_is_told(tmp_path):
    error = fail(tmp_path, "neuronx-cc failed with 70", "\n".join(f"line {number}" for number in range(100)))
    assert error.what.endswith("line 98\nline 99")
    assert "line 79\n" not in error.what
    assert "line 80\n" in error.what
    assert "shape 8x128" in error.where
    assert str(tmp_path / "deep" / LOG) in error.where


@pytest.mark.parametrize(
    ("text", "told", "advised"),
    [
        ("neuronx-cc failed with -9", "memory ran out", "more memory"),
        ("Compilation failed, exit code: -9", "memory ran out", "more memory"),
        ("[F137] neuronx-cc was forcibly killed", "memory ran out", "more memory"),
        ("returncode=-11", "crashed", "optlevel: 1"),
        ("exited with status -6", "gave up", "optlevel: 1"),
        ("unsupported operator", "unsupported operator", "log"),
    ],
)
def test_exit_codes_have_a_meaning(tmp_path, text, told, advised):
    error = fail(tmp_path, text)
    assert told in error.what
    assert advised in error.hint


def test_an_error_code_leads_to_its_page(tmp_path):
    pages = "https://awsdocs-neuron.readthedocs-hosted.com/en/latest/compiler/error-codes"
    log = "ERROR [NCC_EMOD025] requires all tensor dimensions to be statically sized"
    assert fail(tmp_path, "failed", log).hint == f"see {pages}/EMOD025.html"
    error = describe_failure(RuntimeError("NCC_EOOM001"), Shape(64, 512), tmp_path)
    assert "lower shapes.batch_size" in error.hint
    assert "EOOM001.html" in error.hint
