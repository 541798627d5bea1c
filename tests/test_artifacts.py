"""Artifacts: one name for one program, checked before use, and made once however many ask."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from batchneuron.artifacts import (
    Artifact,
    compile_artifact,
    default_cache,
    is_intact,
    list_artifacts,
    list_missing,
)
from batchneuron.backends.backend import CompileRequest
from batchneuron.errors import BackendError
from batchneuron.model import Model
from batchneuron.shapes import Ladder, Shape
from tests.backends.arithmetic import ArithmeticBackend

MODEL = Model("m", Path("/models/m"), None, "d" * 64, {}, False, None)
REQUEST = CompileRequest("summing", {"top_k": 1}, MODEL)
LADDER = Ladder((Shape(8, 16), Shape(4, 32), Shape(1, 77)))


def names_of(backend=None, request=REQUEST, ladder=LADDER):
    return [
        artifact.folder.name
        for artifact in list_artifacts(backend or ArithmeticBackend(), request, ladder, Path("c"))
    ]


@pytest.mark.parametrize(
    ("backend", "request_", "ladder"),
    [
        (ArithmeticBackend(), replace(REQUEST, task="counting"), LADDER),
        (ArithmeticBackend(), replace(REQUEST, options={"top_k": 2}), LADDER),
        (ArithmeticBackend(), replace(REQUEST, model=replace(MODEL, digest="e" * 64)), LADDER),
        (ArithmeticBackend(target="slate"), REQUEST, LADDER),
        (ArithmeticBackend(precision="bfloat16"), REQUEST, LADDER),
        (ArithmeticBackend(versions={"pencil": "3"}), REQUEST, LADDER),
        (ArithmeticBackend(compiler_args={"optlevel": 3}), REQUEST, LADDER),
        (ArithmeticBackend(), REQUEST, Ladder((Shape(7, 16), Shape(4, 33), Shape(2, 77)))),
    ],
    ids=["task", "options", "model", "target", "precision", "versions", "compiler_args", "shape"],
)
def test_the_name_changes_with_everything_that_goes_in(backend, request_, ladder):
    assert not set(names_of(backend, request_, ladder)) & set(names_of())


def test_the_name_is_the_same_wherever_the_model_is():
    moved = replace(REQUEST, model=replace(MODEL, id="n", folder=Path("/elsewhere"), commit="c" * 40))

    assert names_of(request=moved) == names_of()


def test_each_shape_has_its_own_unless_one_serves_all():
    assert len(set(names_of())) == 3
    assert len(set(names_of(ArithmeticBackend(compiles_per_shape=False)))) == 1


def test_what_is_missing_comes_longest_shape_first(tmp_path):
    backend = ArithmeticBackend()
    artifacts = list_artifacts(backend, REQUEST, LADDER, tmp_path / "cache")
    assert [artifact.shape for artifact in artifacts] == list(LADDER.shapes)
    assert list_missing(artifacts) == artifacts[::-1]

    compile_artifact(backend, REQUEST, artifacts[1])

    assert list_missing(artifacts) == (artifacts[2], artifacts[0])


def test_one_for_all_shapes_is_compiled_once(tmp_path):
    backend = ArithmeticBackend(compiles_per_shape=False)
    artifacts = list_artifacts(backend, REQUEST, LADDER, tmp_path)

    for artifact in list_missing(artifacts):
        compile_artifact(backend, REQUEST, artifact)

    assert len(backend.compiled) == 1
    assert list_missing(artifacts) == ()


@pytest.fixture
def artifact(tmp_path):
    (artifact,) = list_artifacts(ArithmeticBackend(), REQUEST, Ladder((Shape(8, 16),)), tmp_path / "cache")
    compile_artifact(ArithmeticBackend(), REQUEST, artifact)
    return artifact


def test_what_is_compiled_is_intact_and_alone(artifact):
    assert is_intact(artifact.folder)
    assert sorted(path.name for path in artifact.folder.iterdir()) == [
        "artifact.json",
        "program.json",
        "weights.bin",
    ]
    assert list(artifact.folder.parent.iterdir()) == [artifact.folder]


def truncate(folder):
    (folder / "weights.bin").write_bytes(b"")


def flip(folder):
    content = bytearray((folder / "weights.bin").read_bytes())
    content[7] ^= 1
    (folder / "weights.bin").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip,
        lambda folder: (folder / "weights.bin").unlink(),
        lambda folder: (folder / "artifact.json").unlink(),
        lambda folder: (folder / "artifact.json").write_text("{"),
        lambda folder: (folder / "artifact.json").write_text("{}"),
    ],
)
def test_an_altered_artifact_is_seen_and_built_again(artifact, damage):
    damage(artifact.folder)
    assert not is_intact(artifact.folder)
    assert list_missing((artifact,)) == (artifact,)

    compile_artifact(ArithmeticBackend(), REQUEST, artifact)

    assert is_intact(artifact.folder)
    assert list(artifact.folder.parent.iterdir()) == [artifact.folder]


@pytest.mark.parametrize("damaged", [False, True])
def test_compilers_that_race_for_one_entry_leave_one(tmp_path, damaged):
    artifact = Artifact(Shape(8, 16), tmp_path / "cache" / "key")
    if damaged:
        artifact.folder.mkdir(parents=True)
        (artifact.folder / "artifact.json").write_text("{")
    together = threading.Barrier(4)
    failures = []

    class SlowBackend(ArithmeticBackend):
        def compile(self, request, shape, folder):
            ArithmeticBackend.compile(self, request, shape, folder)
            together.wait()

    def compile_it():
        try:
            compile_artifact(SlowBackend(), REQUEST, artifact)
        except BackendError as error:
            failures.append(error)

    threads = [threading.Thread(target=compile_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert is_intact(artifact.folder)
    assert list(artifact.folder.parent.iterdir()) == [artifact.folder]


def test_a_compiler_that_fails_leaves_nothing(tmp_path):
    class BrokenBackend(ArithmeticBackend):
        def compile(self, request, shape, folder):
            ArithmeticBackend.compile(self, request, shape, folder)
            raise BackendError("out of paper")

    artifact = Artifact(Shape(8, 16), tmp_path / "cache" / "key")

    with pytest.raises(BackendError, match="out of paper"):
        compile_artifact(BrokenBackend(), REQUEST, artifact)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(BackendError, match="cannot write the artifact cache"):
        compile_artifact(
            ArithmeticBackend(), REQUEST, Artifact(Shape(8, 16), tmp_path / "file" / "cache" / "key")
        )


def test_the_index_names_every_file(artifact):
    assert sorted(json.loads((artifact.folder / "artifact.json").read_text())["files"]) == [
        "program.json",
        "weights.bin",
    ]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "batchneuron" / "artifacts"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "batchneuron" / "artifacts"
