"""An output that the input would read."""

import pytest

from batchneuron.errors import SpecError
from batchneuron.sources.files import BUILDERS
from batchneuron.spec.overlap import FORMATS
from batchneuron.spec.parse import parse_spec


def parse(given, output):
    text = f"task: fill-mask\ninput: {given}\noutput:\n  path: {output}\n"
    return parse_spec(text, "job.yaml")


def test_the_names_of_formats_are_those_of_sources():
    assert BUILDERS.keys() == FORMATS


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("{path: pin}", "pin"),
        ("{path: pin/}", "./pin"),
        ("{path: x/../pin}", "pin"),
        ("{path: pin/data}", "pin"),
        ("{path: pin/data/part-00000_of_00001-0123abcd.parquet}", "pin"),
        ("{path: 'pin/data/*.parquet'}", "pin"),
        ("{path: 'pin/**/*.parquet'}", "pin"),
        ("{path: 'pin/**'}", "pin"),
        ("{path: 'pin/d*/*.parquet'}", "pin"),
        ("{path: 'runs/*/data/*.parquet'}", "runs/today"),
        ("{path: 'runs/2026-*/data/*.parquet'}", "runs/2026-11-29"),
        ("{path: parquet, data_files: [a.parquet, pin/data]}", "pin"),
        ("{path: parquet, data_files: {train: 'pin/data/*'}}", "pin"),
        ("{path: pin, data_files: [data/a.parquet]}", "pin"),
        ("{path: 's3://b/pin'}", "s3://b/pin/"),
        ("{path: 's3://b/pin/data/'}", "s3://b/pin"),
        ("{path: pin}", "file://{here}/pin"),
        ("{path: link}", "pin"),
    ],
    ids=str,
)
def test_an_output_that_would_be_read_is_refused(given, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "pin")

    with pytest.raises(SpecError) as caught:
        parse(given, output.format(here=tmp_path))

    (found,) = caught.value.problems
    assert (found.where, found.key) == ("job.yaml:4", "output.path")
    assert "its parts would be read as input: " in found.what and "beside the input" in found.hint


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("{path: pin}", "pin/out"),  # left out by the listing
        ("{path: 'pin/**/*.parquet'}", "pin/out"),
        ("{path: pin/old/data}", "pin"),
        ("{path: 'runs/2026-*/data/*.parquet'}", "runs/all"),
        ("{path: 'runs/*/*/*.parquet'}", "runs/today"),  # left out by the listing
        ("{path: pin/old}", "pin/old/new"),
        ("{path: pin}", "pin2"),
        ("{path: 'pin/*.parquet'}", "pin"),
        ("{path: pin/a.parquet}", "pin"),
        ("{path: pin, data_files: [a.parquet]}", "pin"),
        ("{path: raw, data_files: [pin/data/a.parquet]}", "pin"),
        ("{path: 's3://b/pin'}", "s3://c/pin"),
        ("{path: 's3://b/pin'}", "b/pin"),
        ("{path: '~nobody-of-that-name/pin'}", "pin"),
    ],
    ids=str,
)
def test_all_other_outputs_are_let_through(given, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(given, output).output.path == output


def test_paths_that_are_no_text_are_told_as_such():
    for given, output in (("{path: 3}", "pin"), ("{path: pin}", "3"), ("{path: pin, data_files: 3}", "pin")):
        with pytest.raises(SpecError) as caught:
            parse(given, output)
        assert len(caught.value.problems) == 1
