"""A machine without a compiler: which version of what was compiled elsewhere it takes."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from batchneuron.artifacts import compile_artifact, list_artifacts
from batchneuron.artifacts.adopt import find_compiler_version
from batchneuron.artifacts.exchange import Sharing
from batchneuron.artifacts.share import FolderShare, Unreachable, offer, write_pins
from batchneuron.backends.backend import CompileRequest
from batchneuron.model import Model
from batchneuron.planning.shapes import Ladder, Shape
from tests.backends.arithmetic import ArithmeticBackend

MODEL = Model("m", Path("/models/m"), None, "d" * 64, {}, False, None)
REQUEST = CompileRequest("text-classification", {"top_k": 1}, MODEL)
SHAPE = Shape(8, 16)


@dataclass(slots=True)
class Runtime(ArithmeticBackend):
    """Runs with a pencil, and has no knife."""

    versions: dict[str, str] = field(default_factory=lambda: {"pencil": "2"})

    @property
    def facts(self):
        return replace(ArithmeticBackend.facts.fget(self), missing_compiler="knife")


@dataclass(slots=True)
class Whole(ArithmeticBackend):
    """Has both."""


def put(cache, *numbers, shape=SHAPE, request=REQUEST, pencil="2"):
    """Compile with knives of these versions."""
    made = []
    for number in numbers:
        backend = Whole(versions={"pencil": pencil, "knife": number})
        made += list_artifacts(backend, request, Ladder((shape,)), cache)
        compile_artifact(backend, request, made[-1])
    return made


def share_all(artifacts, folder):
    for artifact in artifacts:
        assert offer(FolderShare(folder), artifact, replace=False)


@pytest.fixture
def find(tmp_path):
    def find(backend=None, lock=None, request=REQUEST):
        sharing = Sharing(str(tmp_path / "share"), lock and str(lock))
        return find_compiler_version(backend or Runtime(), request, [tmp_path / "cache"], sharing)

    return find


def test_the_newest_of_what_is_here_and_of_what_is_shared_is_taken(find, tmp_path):
    assert find() is None
    put(tmp_path / "cache", "2.9.1", "2.28.0")
    assert find() == "2.28.0"
    share_all(put(tmp_path / "elsewhere", "2.30.0", "2.7", shape=Shape(4, 32)), tmp_path / "share")
    assert find() == "2.30.0"


def test_all_else_must_be_the_same(find, tmp_path):
    put(tmp_path / "cache", "3", pencil="1")
    put(tmp_path / "cache", "4", request=replace(REQUEST, model=replace(MODEL, digest="e" * 64)))
    share_all(put(tmp_path / "elsewhere", "5", pencil="3"), tmp_path / "share")
    assert find() is None

    put(tmp_path / "cache", "2")
    assert find() == "2"


def test_a_machine_with_its_compiler_looks_for_none(find, tmp_path):
    put(tmp_path / "cache", "3")

    assert find(Whole(versions={"pencil": "2", "knife": "1"})) is None


def test_what_is_shared_under_another_s_name_is_not_believed(find, tmp_path):
    (artifact,) = put(tmp_path / "elsewhere", "9")
    share_all([artifact], tmp_path / "share")
    (tmp_path / "share" / artifact.key).rename(tmp_path / "share" / ("0" * 32))

    assert find() is None


def test_with_a_lock_only_what_it_names_counts(find, tmp_path):
    old, new = put(tmp_path / "elsewhere", "1", "2")
    share_all([old, new], tmp_path / "share")
    write_pins(tmp_path / "lock.json", [old])

    assert (find(), find(lock=tmp_path / "lock.json")) == ("2", "1")


def test_a_store_that_cannot_be_asked_has_none(find, tmp_path, monkeypatch):
    share_all(put(tmp_path / "elsewhere", "1"), tmp_path / "share")

    def fail(*_):
        raise Unreachable("no answer")

    monkeypatch.setattr(FolderShare, "read_index", fail)
    assert find() is None
    monkeypatch.setattr(FolderShare, "list_keys", fail)
    assert find() is None
