"""Artifacts: one name for one program, checked before use, and made once however many ask."""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from batchneuron.artifacts import (
    compile_artifact,
    default_cache,
    find_flaw,
    is_intact,
    list_artifacts,
    list_missing,
    program_sources,
    require_unchanged,
)
from batchneuron.artifacts.entry import parse_index, seal_entry
from batchneuron.artifacts.identity import identify, list_changes
from batchneuron.artifacts.program_sources import NEVER_TRACED, digest_modules, digest_sources, find_modules
from batchneuron.backends.backend import CompileRequest
from batchneuron.backends.torch_eager import TorchBackend
from batchneuron.errors import ArtifactMismatch, BackendError
from batchneuron.interactive.static_program import plain_kind
from batchneuron.model import Model
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.tasks import KINDS
from tests.backends.arithmetic import ArithmeticBackend

MODEL = Model("m", Path("/models/m"), None, "d" * 64, {}, False, None)
REQUEST = CompileRequest("text-classification", {"top_k": 1}, MODEL)
SHAPE = Shape(8, 16)
LADDER = Ladder((SHAPE, Shape(4, 32), Shape(1, 77)))
PACKAGE = Path(__file__).parent.parent / "batchneuron"


def names_of(backend=None, request=REQUEST, ladder=LADDER):
    return [
        artifact.folder.name
        for artifact in list_artifacts(backend or ArithmeticBackend(), request, ladder, Path("c"))
    ]


OTHERS = {
    "task": (ArithmeticBackend(), replace(REQUEST, task="token-classification"), LADDER),
    "options": (ArithmeticBackend(), replace(REQUEST, options={"top_k": 2}), LADDER),
    "model": (ArithmeticBackend(), replace(REQUEST, model=replace(MODEL, digest="e" * 64)), LADDER),
    "target": (ArithmeticBackend(target="slate"), REQUEST, LADDER),
    "precision": (ArithmeticBackend(precision="bfloat16"), REQUEST, LADDER),
    "versions": (ArithmeticBackend(versions={"pencil": "3"}), REQUEST, LADDER),
    "compiler_args": (ArithmeticBackend(compiler_args={"optlevel": 3}), REQUEST, LADDER),
    "shape": (ArithmeticBackend(), REQUEST, Ladder((Shape(7, 16), Shape(4, 33), Shape(2, 77)))),
}


@pytest.mark.parametrize(("backend", "request_", "ladder"), OTHERS.values(), ids=OTHERS.keys())
def test_the_name_changes_with_everything_that_goes_in(backend, request_, ladder):
    assert not set(names_of(backend, request_, ladder)) & set(names_of())


def test_the_name_is_the_same_wherever_the_model_is():
    moved = replace(REQUEST, model=replace(MODEL, id="n", folder=Path("/elsewhere"), commit="c" * 40))

    assert names_of(request=moved) == names_of()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("versions", "pencil is now 3, was 2"),
        ("target", "the target is now slate, was paper"),
        ("model", "the weights or the configuration of the model have changed"),
        ("precision", "the precision is now bfloat16, was float32"),
        ("options", "top_k is now 2, was 1"),
        ("compiler_args", "optlevel is now 3, was not set"),
    ],
)
def test_what_changed_is_told_in_words(name, told):
    backend, request, _ = OTHERS[name]

    assert list_changes(identify(backend, request, SHAPE), identify(ArithmeticBackend(), REQUEST, SHAPE)) == [
        told
    ]


def copy_package(folder, edited):
    """A copy of the package with a comment added to one file."""
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / edited).open("a") as file:
        file.write("# edited\n")
    return folder


ROOTS = (
    "batchneuron.programs.program",
    "batchneuron.backends.torch_eager",
    "batchneuron.tasks.text_classification",
)


@pytest.mark.parametrize(
    ("edited", "is_other"),
    [
        ("tasks/text_classification.py", True),
        ("tasks/labels.py", True),
        ("tasks/task.py", True),
        ("programs/program.py", True),
        ("model.py", True),
        ("backends/torch_eager.py", True),
        ("tasks/image_classification.py", False),
        ("tasks/__init__.py", False),
        ("stages/write.py", False),
        ("errors.py", False),
    ],
)
def test_an_edit_of_what_is_traced_makes_another_program(tmp_path, edited, is_other):
    ours = digest_modules(ROOTS)

    assert (digest_modules(ROOTS, (), copy_package(tmp_path / "copy", edited)) != ours) is is_other


def test_what_is_passed_over_does_no_arithmetic_of_models():
    """A name that is gone, or a module that has come to import torch, must not stay in the list."""
    for name in NEVER_TRACED:
        place = PACKAGE / name.replace(".", "/")
        module = place.with_suffix(".py")
        paths = [module] if module.exists() else place.rglob("*.py")
        sources = [path.read_text() for path in paths]
        assert sources, name
        assert not any("import torch" in source for source in sources), name


@pytest.mark.parametrize("task", KINDS)
def test_the_program_of_every_task_has_its_parts(task):
    request = replace(REQUEST, task=task)
    roots = ("batchneuron.programs.program", KINDS[task].open.__module__)

    assert {"batchneuron.programs.program", "batchneuron.model", "batchneuron.tasks.task"} <= find_modules(
        roots
    ).keys()
    assert digest_sources(ArithmeticBackend(), request) != digest_sources(TorchBackend(None, None), request)


def test_a_program_without_a_head_takes_every_task_s_file_into_account(monkeypatch):
    kind = plain_kind("text-classification")
    seen = []
    monkeypatch.setattr(program_sources, "digest_modules", lambda roots, foreign: seen.extend(roots) or "x")

    digest_sources(ArithmeticBackend(), CompileRequest(kind.name, {}, MODEL, kind))

    assert {"batchneuron.interactive.static_program", "batchneuron.tasks.feature_extraction"} <= set(seen)


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
    artifacts = list_artifacts(backend, REQUEST, LADDER, tmp_path / "cache")

    for artifact in list_missing(artifacts):
        compile_artifact(backend, REQUEST, artifact)

    assert len(backend.compiled) == 1
    assert list_missing(artifacts) == ()


@pytest.fixture
def wanted(tmp_path):
    (artifact,) = list_artifacts(ArithmeticBackend(), REQUEST, Ladder((SHAPE,)), tmp_path / "cache")
    return artifact


@pytest.fixture
def artifact(wanted):
    compile_artifact(ArithmeticBackend(), REQUEST, wanted)
    return wanted


def test_what_is_compiled_is_intact_alone_and_this_user_s(artifact):
    assert is_intact(artifact.folder)
    names = ["artifact.json", "program.json", "weights.bin"]
    assert sorted(path.name for path in artifact.folder.iterdir()) == names
    assert list(artifact.folder.parent.iterdir()) == [artifact.folder]
    assert artifact.folder.parent.stat().st_mode & 0o777 == 0o700


def truncate(folder):
    (folder / "weights.bin").write_bytes(b"")


def flip(folder):
    content = bytearray((folder / "weights.bin").read_bytes())
    content[7] ^= 1
    (folder / "weights.bin").write_bytes(content)


def rename_identity(folder):
    index = json.loads((folder / "artifact.json").read_text())
    index["identity"]["target"] = "slate"
    (folder / "artifact.json").write_text(json.dumps(index))


@pytest.mark.case(46)
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (truncate, "weights.bin has 0 bytes, and was published with 256"),
        (flip, "weights.bin has been altered"),
        (lambda folder: (folder / "weights.bin").unlink(), "weights.bin is gone"),
        (lambda folder: (folder / "artifact.json").unlink(), "artifact.json cannot be read"),
        (lambda folder: (folder / "artifact.json").write_text("{"), "artifact.json cannot be read"),
        (lambda folder: (folder / "artifact.json").write_text("{}"), "artifact.json cannot be read"),
        (rename_identity, "it is the entry of another program"),
    ],
)
def test_an_altered_artifact_is_named_and_built_again(artifact, damage, told):
    damage(artifact.folder)
    assert told in find_flaw(artifact.folder)
    assert list_missing((artifact,)) == (artifact,)

    compile_artifact(ArithmeticBackend(), REQUEST, artifact)

    assert is_intact(artifact.folder)
    assert list(artifact.folder.parent.iterdir()) == [artifact.folder]


@pytest.mark.case(46)
@pytest.mark.parametrize("damaged", [False, True])
def test_of_those_that_want_one_entry_one_compiles(wanted, damaged):
    if damaged:
        wanted.folder.mkdir(parents=True, mode=0o700)
        wanted.folder.parent.chmod(0o700)
        (wanted.folder / "artifact.json").write_text("{")
    backend = ArithmeticBackend()
    threads = [threading.Thread(target=compile_artifact, args=(backend, REQUEST, wanted)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert backend.compiled == [SHAPE]
    assert is_intact(wanted.folder)
    assert list(wanted.folder.parent.iterdir()) == [wanted.folder]


def test_a_compiler_that_fails_leaves_nothing(wanted):
    class BrokenBackend(ArithmeticBackend):
        def compile(self, request, shape, folder):
            ArithmeticBackend.compile(self, request, shape, folder)
            raise BackendError("out of paper")

    with pytest.raises(BackendError, match="out of paper"):
        compile_artifact(BrokenBackend(), REQUEST, wanted)
    assert list(wanted.folder.parent.iterdir()) == []


def die_at(step, wanted):
    """Compile in a forked process that ends, as by kill -9, just before its `step`-th call that matters."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = [step]

    def killed_before(call):
        def counted(*given, **named):
            left[0] -= 1
            if left[0] == 0:
                os._exit(137)
            return call(*given, **named)

        return counted

    os.fsync = killed_before(os.fsync)
    for name in ("rename", "unlink", "write_bytes", "write_text"):
        setattr(Path, name, killed_before(getattr(Path, name)))
    compile_artifact(ArithmeticBackend(), REQUEST, wanted)
    os._exit(0)


@pytest.mark.case(46)
@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_killed_at_any_step_it_leaves_nothing_that_is_loaded(wanted, is_rebuilt):
    steps = 0
    while True:
        shutil.rmtree(wanted.folder.parent, ignore_errors=True)
        if is_rebuilt:
            compile_artifact(ArithmeticBackend(), REQUEST, wanted)
            flip(wanted.folder)
        steps += 1
        code = die_at(steps, wanted)
        assert code in (0, 137)
        if code == 137:
            # whole, or seen not to be; never half of it under an artifact.json that vouches for it
            assert is_intact(wanted.folder) or list_missing((wanted,)) == (wanted,)
            compile_artifact(ArithmeticBackend(), REQUEST, wanted)
        assert is_intact(wanted.folder)
        if code == 0:
            break
    assert steps > 8
    assert list(wanted.folder.parent.iterdir()) == [wanted.folder]


def test_what_a_killed_builder_left_goes_with_the_next_one(wanted):
    assert die_at(3, wanted) == 137
    assert any(path.name.startswith(".building-") for path in wanted.folder.parent.iterdir())

    compile_artifact(ArithmeticBackend(), REQUEST, wanted)

    assert list(wanted.folder.parent.iterdir()) == [wanted.folder]


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (artifact,) = list_artifacts(ArithmeticBackend(), REQUEST, Ladder((SHAPE,)), tmp_path / "file" / "cache")

    with pytest.raises(BackendError, match="cannot write the artifact cache"):
        compile_artifact(ArithmeticBackend(), REQUEST, artifact)


def test_a_cache_that_others_can_write_to_is_refused(artifact):
    artifact.folder.parent.chmod(0o777)

    with pytest.raises(BackendError, match="others can write to the artifact cache") as caught:
        compile_artifact(ArithmeticBackend(), REQUEST, artifact)
    assert "chmod 700" in caught.value.hint


@pytest.mark.parametrize("is_link", [False, True])
def test_a_cache_of_another_user_is_refused(artifact, tmp_path, monkeypatch, is_link):
    """Its owner can put programs there, whoever else can."""
    if is_link:
        artifact.folder.parent.rename(tmp_path / "elsewhere")
        artifact.folder.parent.symlink_to(tmp_path / "elsewhere")
    if os.geteuid() == 0:
        os.chown(artifact.folder.parent, 4242, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)

    with pytest.raises(BackendError, match="the artifact cache is another user's") as caught:
        compile_artifact(ArithmeticBackend(), REQUEST, artifact)
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_the_index_says_what_it_is_and_names_every_file(artifact):
    index = json.loads((artifact.folder / "artifact.json").read_text())

    assert sorted(index["files"]) == ["program.json", "weights.bin"]
    assert index["files"]["weights.bin"]["size_bytes"] == 256
    assert index["identity"]["versions"] == {"pencil": "2"}
    assert index["identity"]["shape"] == "8x16"
    assert index["about"]["model_id"] == "m"


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "artifact.json", ""])
def test_an_index_cannot_name_a_file_outside(artifact, name):
    index = json.loads((artifact.folder / "artifact.json").read_text())
    index["files"][name] = {"sha256": "0" * 64, "size_bytes": 1}

    with pytest.raises(BackendError, match="not its own"):
        parse_index(json.dumps(index).encode(), "here")


def test_a_worker_sees_that_a_verified_artifact_was_written_to(artifact):
    sealed = replace(artifact, seal=seal_entry(artifact.folder))
    require_unchanged(sealed)
    os.utime(artifact.folder / "artifact.json", (1, 1))  # being used is no change
    require_unchanged(sealed)

    flip(artifact.folder)

    with pytest.raises(ArtifactMismatch, match="changed after this run had verified them"):
        require_unchanged(sealed)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "batchneuron" / "artifacts"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "batchneuron" / "artifacts"
