"""Lines of docs/security.md that no other test shows."""

from __future__ import annotations

import json
import os
import pickle
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchneuron.artifacts import default_cache
from batchneuron.artifacts.publish import prepare_cache
from batchneuron.cli import main
from batchneuron.errors import DataError, ModelError
from batchneuron.model import resolve_model
from batchneuron.run import run_job
from batchneuron.spec.sections import ModelSpec
from tests.sources.reading import open_path
from tests.tiny import save_bert

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/security.md"


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_pickled_weights_are_refused_with_a_hint_and_never_opened(tmp_path):
    folder = save_bert(tmp_path / "model", labels=["a", "b"])
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "mark")))

    with pytest.raises(ModelError, match=r"(?s)no safetensors weights.*save_pretrained"):
        resolve_model(ModelSpec(id=str(folder)), "")
    assert not (tmp_path / "mark").exists()


def test_code_that_comes_with_a_model_does_not_run(tmp_path, capsys, monkeypatch):
    """A model that names classes of its own: neither the spec nor the flag is given."""
    folder, mark = save_bert(tmp_path / "model", labels=["a", "b"]), tmp_path / "mark"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "of-its-own"}))
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Own: pass\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "alpha"}\n')
    job = tmp_path / "job.yaml"
    job.write_text(
        f"task: text-classification\nmodel: {{id: '{folder}'}}\ninput: {{path: '{tmp_path}/rows.jsonl'}}\n"
        f"backend: {{kind: torch, workers: 0, parity_rows: 0}}\noutput: {{path: '{tmp_path}/out'}}\n"
    )
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers would ask on a terminal

    with pytest.raises(SystemExit) as ended:
        main(["run", str(job)])
    assert ended.value.code not in (0, None)
    assert not mark.exists(), capsys.readouterr().err


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", "a/../../b", "a\0b"])
def test_a_model_cannot_name_a_folder_outside_of_its_own(tmp_path, path):
    folder = save_bert(tmp_path / "model")
    for kind in ("Transformer", "Pooling"):
        modules = [{"idx": 0, "name": "0", "path": path, "type": f"sentence_transformers.models.{kind}"}]
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ModelError, match="a folder that is not the model's own"):
            resolve_model(ModelSpec(id=str(folder)), "")


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "gs", "hdfs", "data"])
def test_only_files_and_buckets_are_read(scheme):
    with pytest.raises(DataError, match=f"'{scheme}://' is not a scheme that can be read"):
        open_path(f"{scheme}://host/rows.parquet")


def test_names_of_output_files_do_not_come_from_the_data(make_spec, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "../../../etc/passwd", "../up": "\\u0000/x"}\n' * 5)
    run_job(make_spec(f"input.path={tmp_path / 'rows.jsonl'}"))

    names = [path.name for path in (tmp_path / "out/data").iterdir()]
    assert names and all(re.fullmatch(r"part-\d{5}_of_\d{5}-[0-9a-f]{8}\.parquet", name) for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "out"}
    table = pq.read_table(tmp_path / "out/data")
    assert table["../up"].to_pylist() == ["\0/x"] * 5 and table["_error"].null_count == 5


def test_the_cache_of_programs_is_the_users_alone():
    prepare_cache(default_cache())
    assert default_cache().stat().st_mode & 0o777 == 0o700


def test_pyarrow_is_past_the_floor():
    """CVE-2023-47248: reading an untrusted file ran code, below 14.0.1."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floor = next(re.search(r">=([\d.]+)", text)[1] for text in dependencies if text.startswith("pyarrow"))
    assert [int(part) for part in floor.split(".")] >= [14]
    assert int(version("pyarrow").split(".")[0]) >= 14


def test_stubs_of_the_public_index_are_no_dependencies():
    text = (ROOT / "pyproject.toml").read_text()
    assert not re.search(r'^\s*"(torch-neuronx|neuronx-cc)', text, re.MULTILINE)


def test_every_test_that_the_page_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text())
    assert len(named) > 15
    for path, test in named:
        text = (ROOT / path).read_text()
        assert not test or f"def {test}(" in text, f"{path}::{test}"
