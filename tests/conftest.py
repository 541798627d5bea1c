"""Fixtures shared by all tests: tiny models, tiny data, and a way to build a spec."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# The hub's library reads this when it is imported, so it comes before everything else.
os.environ["HF_HUB_OFFLINE"] = "1"

from hypothesis import settings

from batchneuron.spec.parse import parse_spec
from batchneuron.spec.sections import JobSpec
from batchneuron.tasks import OPTIONS
from tests.supervised import stage  # noqa: F401  # a fixture of two files
from tests.tiny import save_bert, write_rows

pytest_plugins = ["tests.faults.report"]

# A shared machine may stand still for a second; that is no failure.
# The same examples on every machine; `HYPOTHESIS_PROFILE=explore make test` looks for new ones.
settings.register_profile("repeat", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or leaves artifacts in the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny text classifier with three labels."""
    return save_bert(tmp_path_factory.mktemp("classifier"), labels=["bad", "fair", "good"])


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny encoder."""
    return save_bert(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def rows_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three Parquet files with 37, 0 and 5 rows: `id`, `text`, `note`."""
    return write_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def make_spec(classifier: Path, rows_folder: Path, tmp_path: Path) -> Callable[..., JobSpec]:
    """A spec of the tiny classifier over the tiny rows; arguments are `--set` overrides."""

    def make(*overrides: str) -> JobSpec:
        text = (
            "task: text-classification\n"
            f"model: {{id: '{classifier}'}}\n"
            f"input: {{path: '{rows_folder}', columns: {{text: text}}}}\n"
            "shapes: {batch_size: 4, sequence_length: [8, 16, 48]}\n"
            "backend: {workers: 0, kind: torch}\n"
            f"output: {{path: '{tmp_path / 'out'}', shard_rows: 10}}\n"
        )
        return parse_spec(text, "test.yaml", overrides, OPTIONS)

    return make
