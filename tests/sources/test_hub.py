"""Whatever `datasets` opens."""

import pickle
import subprocess
import sys

import datasets
import pyarrow as pa
import pytest
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

from batchneuron.errors import SourceChanged, SourceNotFound, SourceUnavailable, SourceUnreadable
from batchneuron.sources import hub
from tests.hub_answers import answer, follow
from tests.sources.reading import cut, open_path, read_all, read_path
from tests.sources.writing import all_rows


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test finds what another one, or the user, has in the cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def saved(tmp_path):
    datasets.Dataset.from_dict(all_rows().to_pydict()).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "a.txt").write_text("one\nzwei é\ndrei\n")
    return tmp_path / "a.txt"


def test_a_saved_dataset(saved):
    inventory = open_path(saved).inventory()
    (listed,) = inventory.files
    assert listed.file.uri == f"datasets:{saved}"
    assert listed.rows == 42
    assert inventory.schema == all_rows().schema
    assert inventory.schema.metadata is None
    assert read_path(saved) == all_rows().to_pylist()
    assert read_all(open_path(saved), ["text"]).table.column_names == ["text"]


def test_blocks_are_ranges_of_rows(saved, monkeypatch):
    monkeypatch.setattr(hub, "_BLOCK_ROWS", 20)
    (listed,) = open_path(saved).inventory().files
    assert [(b.row_lo, b.rows) for b in listed.blocks] == [(0, 20), (20, 20), (40, 2)]
    assert read_path(saved) == all_rows().to_pylist()


def test_a_saved_dataset_of_no_rows(tmp_path):
    empty = datasets.Dataset.from_dict({"a": []}, datasets.Features({"a": datasets.Value("int64")}))
    empty.save_to_disk(tmp_path / "one", num_shards=1)
    assert open_path(tmp_path / "one").inventory().rows == 0
    empty.save_to_disk(tmp_path / "none")  # which `datasets` itself cannot open
    with pytest.raises(SourceUnreadable):
        open_path(tmp_path / "none").inventory()


def test_a_split_of_a_saved_dataset(tmp_path):
    parts = {"train": datasets.Dataset.from_dict({"a": [1]}), "test": datasets.Dataset.from_dict({"a": [2]})}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert read_path(tmp_path / "saved") == [{"a": 1}]
    assert read_path(tmp_path / "saved", split="test") == [{"a": 2}]
    with pytest.raises(SourceNotFound, match="no split 'dev', but train, test"):
        read_path(tmp_path / "saved", split="dev")


def test_a_builder_of_datasets(lines):
    assert read_path("text", data_files=str(lines)) == [{"text": "one"}, {"text": "zwei é"}, {"text": "drei"}]


def test_a_split_of_a_builder(lines):
    files = {"train": str(lines), "test": str(lines)}
    assert len(read_path("text", data_files=files, split="test[1:]")) == 2
    with pytest.raises(SourceNotFound, match="Unknown split"):
        read_path("text", data_files=files, split="dev")


def test_missing_data_files_are_told(tmp_path):
    with pytest.raises(SourceNotFound, match=r"no\.txt"):
        read_path("text", data_files=str(tmp_path / "no.txt"))


def test_images_stay_what_is_stored(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": [{"bytes": b"png", "path": None}, None], "label": [1, 0]}
    table = datasets.table.InMemoryTable(pa.table(rows, schema=features.arrow_schema))
    datasets.Dataset(table, datasets.DatasetInfo(features=features)).save_to_disk(tmp_path / "saved")
    source = open_path(tmp_path / "saved")
    assert source.inventory().schema.field("image").type == pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]
    )
    assert read_all(source).table.to_pylist() == [
        {"image": {"bytes": b"png", "path": None}, "label": 1},
        {"image": None, "label": 0},
    ]


@pytest.mark.parametrize("kind", ["saved", "lines"])
def test_another_process_finds_the_same_dataset(request, tmp_path, cache, kind):
    path = request.getfixturevalue(kind)
    source = open_path(path) if kind == "saved" else open_path("text", data_files=str(path))
    inventory = source.inventory()
    job = pickle.dumps((source, inventory.schema, cut(inventory, 1, inventory.rows)))
    code = (
        "import pickle, sys; source, schema, slices = pickle.load(sys.stdin.buffer); "
        "print(source.open_reader(schema).read(slices).table.num_rows)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=job,
        capture_output=True,
        check=True,
        env={"HF_DATASETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    assert int(done.stdout) == inventory.rows - 1


def test_a_dataset_that_changed_is_refused(lines):
    source = open_path("text", data_files=str(lines))
    inventory = source.inventory()
    lines.write_text("something else\nof two lines\n")
    with pytest.raises(SourceChanged, match=r"3 rows then, .* 2 rows now"):
        source.open_reader(inventory.schema).read(cut(inventory, 0, 1))


@pytest.mark.case(47)
@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (DatasetNotFoundError("Dataset 'a/b' is a gated dataset"), SourceNotFound, "hf auth login"),
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), SourceUnavailable, "run it again"),
        (HTTPError("Server disconnected without sending a response."), SourceUnavailable, "run it again"),
        (follow(FileNotFoundError("Couldn't find 'a/b'"), answer(429)), SourceUnavailable, "run it again"),
        (follow(DatasetGenerationError("It broke"), answer(503)), SourceUnavailable, "run it again"),
        (follow(ConnectionError("Couldn't reach it"), OfflineModeIsEnabled("no")), SourceNotFound, "network"),
        (follow(FileNotFoundError("Couldn't find 'a/b'"), answer(404)), SourceNotFound, "input.revision"),
        (ValueError("BuilderConfig 'x' not found.\nAvailable: ['y']"), SourceNotFound, "Available: ['y']"),
        (RuntimeError("Dataset scripts are no longer supported"), SourceUnreadable, "scripts"),
    ],
)
def test_what_the_hub_says_is_told_in_one_line_with_a_hint(monkeypatch, error, expected, text):
    def refuse(*args, **words):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(expected) as caught:
        open_path("a/b").inventory()
    assert str(caught.value).startswith("a/b: ")
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_progress_bars_are_as_they_were(saved):
    for switch in (datasets.enable_progress_bars, datasets.disable_progress_bars):
        switch()
        before = datasets.are_progress_bars_disabled()
        open_path(saved).inventory()
        assert datasets.are_progress_bars_disabled() == before
    datasets.enable_progress_bars()
