"""Which files a path stands for."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchneuron.errors import SourceNotFound
from batchneuron.ledger.run_names import RUN
from batchneuron.sources.listing import expand
from tests.sources.reading import open_path, read_path

NASTY = ["with space", "it's", 'double "quoted"', "ünï 日本", "$(touch x)", "#1?a=b%20", "[ab]*", "new\nline"]


@pytest.fixture
def tree(tmp_path):
    """Folders and files, some of them hidden; every file holds its own name."""
    for name in [
        "b/2.csv",
        "b/1.csv",
        "a/x/3.csv",
        "a/4.csv",
        "5.csv",
        ".hidden/6.csv",
        "_temporary/7.csv",
        "a/.8.csv",
        "a/_9.csv",
        "a/note.txt",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"name\n{name}\n")
    return tmp_path


def names(rows):
    return [row["name"] for row in rows]


def test_a_folder_is_all_its_files_by_path_without_the_hidden_ones(tree):
    assert names(read_path(tree)) == ["5.csv", "a/4.csv", "a/x/3.csv", "b/1.csv", "b/2.csv"]
    assert names(read_path(f"{tree}/a/")) == ["a/4.csv", "a/x/3.csv"]


def test_a_folder_below_a_hidden_one_can_be_asked_for(tree):
    assert names(read_path(tree / ".hidden")) == [".hidden/6.csv"]
    assert names(read_path(tree / "a" / "_9.csv")) == ["a/_9.csv"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.csv", ["5.csv"]),
        ("*/*.csv", ["a/4.csv", "b/1.csv", "b/2.csv"]),
        ("**/*.csv", ["5.csv", "a/4.csv", "a/x/3.csv", "b/1.csv", "b/2.csv"]),
        ("a/**/[34].csv", ["a/4.csv", "a/x/3.csv"]),
        ("b/**", ["b/1.csv", "b/2.csv"]),
        ("?/?.csv", ["a/4.csv", "b/1.csv", "b/2.csv"]),
        ("[!a]/*", ["b/1.csv", "b/2.csv"]),
        ("a/_*.csv", ["a/_9.csv"]),
        ("a/.*.csv", ["a/.8.csv"]),
        (".hidden/*", [".hidden/6.csv"]),
        ("_*/*.csv", ["_temporary/7.csv"]),
    ],
)
def test_globs(tree, pattern, found):
    assert names(read_path(tree / pattern)) == found


@pytest.fixture
def runs(tree):
    """The tree, and a run folder at its top, one within it, and one within that."""
    for folder in (tree, tree / "a/out", tree / "a/out/data/again"):
        for name in ("data/part.csv", RUN, ".batchneuron/manifest.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"name\n{folder.name}/{name}\n")
    return tree


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", ["a/4.csv", "a/x/3.csv"]),
        ("a/../a/", ["a/4.csv", "a/x/3.csv"]),
        ("a/**/*.csv", ["a/4.csv", "a/x/3.csv"]),
        ("*/*/*/*.csv", []),
        ("*/*/data/*.csv", ["out/data/part.csv"]),
        ("a/*/data/*", ["out/data/part.csv"]),
        ("a/**/data/*.csv", []),
        ("a/out", ["out/data/part.csv"]),
        ("a/out/data", ["out/data/part.csv"]),
        ("a/out/*/*.csv", ["out/data/part.csv"]),
        ("a/out/data/*.csv", ["out/data/part.csv"]),
        ("a/out/data/part.csv", ["out/data/part.csv"]),
        ("a/out/data/again", ["again/data/part.csv"]),
    ],
)
def test_run_folders_are_left_out_unless_they_are_named(runs, path, found):
    if found:
        assert names(read_path(f"{runs}/{path}")) == found
        return
    with pytest.raises(
        SourceNotFound, match=r"run folders below it are left out; to read one, name it: .*/data"
    ):
        read_path(f"{runs}/{path}")


def test_a_folder_of_nothing_but_runs_says_how_they_are_read(runs):
    for path in ("a/4.csv", "a/x/3.csv", "a/note.txt", "a/.8.csv", "a/_9.csv"):
        (runs / path).unlink()

    with pytest.raises(SourceNotFound, match=f"(?s)the folder has no files.*name it: {runs}/a/out/data"):
        read_path(runs / "a")


def test_a_folder_that_is_no_run_is_read_whatever_it_is_called(tree):
    for name in ("data/1.csv", ".batchneuron/plan.json", ".batchneuron/run.json/x.csv"):
        (tree / "b" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "b" / name).write_text(f"name\nb/{name}\n")

    assert names(read_path(tree))[-1] == "b/data/1.csv"


def test_sorting_is_by_the_whole_path(tmp_path):
    for name in ["a/10.csv", "a/9.csv", "a-b/1.csv", "B/1.csv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"name\n{name}\n")
    assert names(read_path(tmp_path)) == ["B/1.csv", "a-b/1.csv", "a/10.csv", "a/9.csv"]


@pytest.mark.parametrize("name", NASTY)
def test_nasty_names(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "f.parquet")
    (folder / "g.jsonl").write_text('{"a": 2}\n')
    assert read_path(folder / "f.parquet") == [{"a": 1}]
    assert read_path("json", data_files=str(folder)) == [{"a": 2}]


def test_home_and_relative_paths(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.chdir(tree / "a")
    assert names(read_path("~/5.csv")) == ["5.csv"]
    assert names(read_path("4.csv")) == ["a/4.csv"]
    assert names(read_path("../b/1.csv")) == ["b/1.csv"]
    assert open_path("4.csv").inventory().files[0].file.uri == str(tree / "a" / "4.csv")


def test_file_uris(tree):
    assert names(read_path(f"file://{tree}/5.csv")) == ["5.csv"]


def test_the_identity_of_a_file(tree):
    os.utime(tree / "5.csv", ns=(1, 1234567890123456789))
    (file,) = expand(str(tree / "5.csv")).files
    assert (file.size_bytes, file.version) == (11, "1234567890123456789")


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("6.csv", "did you mean 5.csv"),
        ("b/l.csv", "did you mean 2.csv or 1.csv"),
        ("bb/1.csv", "bb is not there; did you mean b"),
        ("a/*.parquet", "has: "),
        ("c/*.csv", "no such folder"),
    ],
)
def test_what_is_missing_is_told_with_what_is_there(tree, path, hint):
    with pytest.raises(SourceNotFound) as caught:
        open_path(tree / path).inventory()
    assert str(tree) in str(caught.value)
    assert hint in str(caught.value)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(SourceNotFound, match="the folder has no files"):
        open_path(tmp_path).inventory()


def test_a_folder_of_other_files_is_an_error_that_counts_them(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(SourceNotFound, match=r"no Parquet, JSON Lines, CSV or Arrow files, but 1 \.txt"):
        open_path(tmp_path).inventory()
