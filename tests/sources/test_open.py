"""Which source an input section asks for."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import DataError, SourceNotFound
from batchneuron.sources.files import FileSource, format_of
from batchneuron.sources.hub import HubSource
from tests.sources.reading import open_path, read_path
from tests.sources.writing import all_rows, write_files


@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("a.parquet", "parquet"),
        ("a.pq", "parquet"),
        ("A.PARQUET", "parquet"),
        ("a.b.jsonl", "json"),
        ("a.ndjson.gz", "json"),
        ("a.json.GZ", "json"),
        ("a.csv.gz", "csv"),
        ("a.tsv", "csv"),
        ("a.feather", "arrow"),
        ("a.ipc", "arrow"),
        ("a.parquet.gz", None),
        ("a.txt", None),
        ("parquet", None),
        ("a.gz", None),
    ],
)
def test_the_format_is_told_by_the_name(name, format_name):
    assert format_of(f"/some.csv/{name}") == format_name


@pytest.mark.parametrize("builder", ["parquet", "json", "csv", "arrow"])
def test_format_names_take_files_globs_and_folders(tmp_path, builder):
    kind = {"json": "jsonl"}.get(builder, builder)
    folder = write_files(tmp_path, kind)
    expected = all_rows().to_pylist()
    assert read_path(builder, data_files=str(folder)) == expected
    assert read_path(builder, data_files=f"{folder}/part-*") == expected
    files = sorted(map(str, folder.iterdir()), reverse=True)
    assert read_path(builder, data_files=files) == expected
    assert read_path(builder, data_files={"train": files, "test": "nowhere"}) == expected


def test_a_file_that_is_named_twice_is_read_once(tmp_path):
    folder = write_files(tmp_path, "csv")
    files = [str(folder), f"{folder}/*.csv", f"{folder}/part-0.csv"]
    assert read_path("csv", data_files=files) == all_rows().to_pylist()


def test_a_format_name_overrules_the_extension(tmp_path):
    (tmp_path / "rows.txt").write_text('{"a": 1}\n')
    (tmp_path / "rows").write_text('{"a": 2}\n')
    assert read_path("json", data_files=[f"{tmp_path}/rows.txt", f"{tmp_path}/rows"]) == [{"a": 2}, {"a": 1}]


def test_data_files_may_lie_in_a_folder(tmp_path):
    write_files(tmp_path, "csv")
    assert read_path(tmp_path, data_files=["part-2.csv", "part-1.csv"]) == all_rows().slice(37).to_pylist()
    assert read_path(tmp_path, data_files={"test": "part-[12].csv"}, split="test")[0]["id"] == "00037"


def test_a_split_is_chosen_from_data_files(tmp_path):
    folder = write_files(tmp_path, "csv")
    files = {"train": f"{folder}/part-0.csv", "test": f"{folder}/part-2.csv"}
    assert len(read_path("csv", data_files=files)) == 37
    assert len(read_path("csv", data_files=files, split="test")) == 5


@pytest.mark.parametrize("data_files", ["*.csv", ["a.csv"], {"train": "a.csv", "test": "b.csv"}, None])
def test_a_missing_split_is_told_with_those_that_are_there(tmp_path, data_files):
    write_files(tmp_path, "csv")
    with pytest.raises(SourceNotFound, match="no split 'dev', there is train"):
        open_path(tmp_path if data_files is None else "csv", data_files=data_files, split="dev")


def test_several_formats_in_a_folder_are_refused_by_name(tmp_path):
    write_files(tmp_path, "csv")
    write_files(tmp_path, "parquet")
    with pytest.raises(DataError, match=r"several formats: csv \(.*part-0\.csv\), parquet \(.*\.parquet\)"):
        open_path(tmp_path).inventory()
    assert read_path(tmp_path / "*.csv") == all_rows().to_pylist()
    assert read_path("parquet", data_files=str(tmp_path)) == all_rows().to_pylist()


def test_other_files_in_a_folder_are_passed_over(tmp_path):
    write_files(tmp_path, "csv")
    (tmp_path / "README.md").write_text("hello")
    assert read_path(tmp_path) == all_rows().to_pylist()


def test_a_file_that_does_not_tell_its_format_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(DataError, match=r"a\.txt: the name does not tell the format(.|\n)*data_files"):
        open_path(tmp_path / "a.txt").inventory()


def test_a_run_folder_can_be_an_input(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    pq.write_table(pa.table({"label": ["good"]}), data / "part-00000-of-00001-abc.parquet")
    hidden = tmp_path / ".batchneuron"
    hidden.mkdir()
    (hidden / "run.json").write_text("{}")
    (hidden / "tmp.parquet").write_text("torn")
    assert read_path(tmp_path) == [{"label": "good"}]


def test_a_format_name_needs_data_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceNotFound, match=r"parquet is a format(.|\n)*data_files"):
        open_path("parquet")


def test_a_folder_may_be_called_like_a_format(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "csv", "csv")
    assert read_path("csv") == all_rows().to_pylist()


@pytest.mark.parametrize("path", ["no.parquet", "./no", "~/no", "/no/such", "no/*", "a/b/c", "no.jsonl.gz"])
def test_what_looks_like_a_file_is_never_looked_up_on_the_hub(path):
    source = open_path(path)
    assert isinstance(source, FileSource)
    with pytest.raises(SourceNotFound):
        source.inventory()


@pytest.mark.parametrize("path", ["imdb", "stanfordnlp/imdb", "org/data.v1", "text", "imagefolder"])
def test_what_does_not_look_like_a_file_goes_to_datasets(path):
    assert isinstance(open_path(path, name="plain", revision="main"), HubSource)


def test_words_for_the_hub_mean_nothing_for_files(tmp_path):
    write_files(tmp_path, "csv")
    with pytest.raises(DataError, match="mean nothing for files"):
        open_path(tmp_path, revision="main")


def test_an_unknown_scheme_is_refused():
    with pytest.raises(DataError, match="'gs://' is not a scheme that can be read"):
        open_path("gs://bucket/a.parquet")


def test_a_bucket_is_not_asked_before_the_inventory():
    assert isinstance(open_path("s3://bucket/rows/*.parquet"), FileSource)


def test_importing_the_sources_imports_no_framework():
    code = (
        "import sys, batchneuron.sources; "
        "print({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules) or 'none')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "none"
