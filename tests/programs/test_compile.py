"""Compile: what is missing, once, in processes of its own; and a message for whatever goes wrong."""

import multiprocessing
import os
import shutil
import signal
import socket
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from batchneuron.artifacts import find_ready_shapes, is_intact, list_artifacts
from batchneuron.artifacts.locks import try_build_lock
from batchneuron.artifacts.upkeep import clear_cache, delete_broken, list_kept
from batchneuron.backends.backend import CompileRequest
from batchneuron.errors import BackendError, CompileError, Incomplete
from batchneuron.model import Model
from batchneuron.planning.shapes import Ladder, Shape
from batchneuron.programs import compile as compile_module
from batchneuron.programs.compile import CompileWatch, Sharing, compile_missing
from tests.backends.compiling import CompilingBackend, read_journal

MODEL = Model("org/m", Path("/models/m"), None, "d" * 64, {}, False, None)
REQUEST = CompileRequest("text-classification", {"top_k": 1}, MODEL)
LADDER = Ladder((Shape(8, 16), Shape(1, 77)))


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def backend(journal):
    """Compiles in this process, which is quicker where the process is not the point."""
    return CompilingBackend(journal, needs_process=False)


def build(backend, cache, request=REQUEST, ladder=LADDER, **named):
    """What compile_missing gives, and its events as `step shape note`."""
    told = []
    watch = CompileWatch(lambda event: told.append(f"{event.step} {event.shape} {event.note}".strip()))
    artifacts = list_artifacts(backend, request, ladder, cache)
    return compile_missing(backend, request, artifacts, named.pop("watch", watch), **named), told


def test_each_shape_is_compiled_once_in_a_process_of_its_own(cache, journal):
    backend = CompilingBackend(journal)
    compiled, told = build(backend, cache, jobs=1)

    entries = read_journal(journal)
    assert [shape for shape, _, _ in entries] == ["1x77", "8x16"]
    assert str(os.getpid()) not in {pid for _, pid, _ in entries}
    assert {mode for _, _, mode in entries} == {"compile"}
    assert "SDK_MODE" not in os.environ
    assert told == ["started 1x77", "compiled 1x77", "started 8x16", "compiled 8x16"]
    assert [artifact.shape for artifact in compiled.artifacts] == list(LADDER.shapes)
    assert all(is_intact(artifact.folder) and artifact.seal for artifact in compiled.artifacts)
    assert sorted(path.name for path in cache.iterdir()) == sorted(a.key for a in compiled.artifacts)

    again, told = build(backend, cache)
    assert told == ["reused 1x77", "reused 8x16"]
    assert [artifact.seal for artifact in again.artifacts] == [a.seal for a in compiled.artifacts]
    assert len(read_journal(journal)) == 2


def test_shapes_that_were_compiled_before_are_known_by_their_program(cache, backend):
    build(backend, cache)
    other = replace(REQUEST, options={"top_k": 2})
    build(backend, cache, request=other, ladder=Ladder((Shape(2, 9),)))

    assert find_ready_shapes(backend, REQUEST, cache) == set(LADDER.shapes)
    assert find_ready_shapes(backend, other, cache) == {Shape(2, 9)}
    assert find_ready_shapes(CompilingBackend(Path(), target="another"), REQUEST, cache) == set()


@pytest.mark.parametrize(
    ("free_bytes", "cpus", "jobs", "slots"),
    [(100, 8, None, 3), (100, 2, None, 2), (10, 8, None, 1), (100, 8, 1, 1), (10, 1, 4, 4)],
)
def test_as_many_compilers_as_memory_and_cpus_allow(monkeypatch, journal, free_bytes, cpus, jobs, slots):
    monkeypatch.setattr(compile_module, "available_memory_bytes", lambda: free_bytes)
    monkeypatch.setattr(compile_module, "list_cpus", lambda: tuple(range(cpus)))
    needs = CompilingBackend(journal, memory_bytes=30).compile_needs(MODEL)

    assert compile_module._count_slots(needs, jobs) == slots


@pytest.mark.parametrize(
    ("backend_changes", "request_changes", "told"),
    [
        ({"versions": {"chisel": "3"}}, {}, "chisel is now 3, was 2: compiling again"),
        ({"target": "slate"}, {}, "the target is now slate, was stone: compiling again"),
        (
            {},
            {"model": replace(MODEL, digest="e" * 64)},
            "the weights or the configuration of the model have changed: compiling again",
        ),
    ],
    ids=["another compiler", "another chip", "retrained weights"],
)
def test_what_was_compiled_for_something_else_is_not_used(
    backend, cache, journal, backend_changes, request_changes, told
):
    old, _ = build(backend, cache)

    new, events = build(replace(backend, **backend_changes), cache, replace(REQUEST, **request_changes))

    assert f"started 8x16 {told}" in events
    assert not {a.folder for a in new.artifacts} & {a.folder for a in old.artifacts}
    assert all(is_intact(artifact.folder) for artifact in (*old.artifacts, *new.artifacts))
    assert len(read_journal(journal)) == 4


def test_of_several_older_ones_the_nearest_is_named(backend, cache):
    build(replace(backend, target="slate", versions={"chisel": "1"}), cache)
    build(replace(backend, versions={"chisel": "1"}), cache)

    _, events = build(backend, cache)

    assert "started 8x16 chisel is now 2, was 1: compiling again" in events


def test_a_truncated_entry_is_named_and_compiled_again(backend, cache, journal):
    compiled, _ = build(backend, cache)
    folder = compiled.artifacts[0].folder
    (folder / "cache" / "program.neff").write_bytes(b"half")

    _, told = build(backend, cache)

    flaw = "cache/program.neff has 4 bytes, and was published with 256"
    assert told == ["reused 1x77", f"started 8x16 {folder}: {flaw}: compiling again", "compiled 8x16"]
    assert is_intact(folder)
    assert len(read_journal(journal)) == 3


def test_a_failing_compiler_is_told_with_its_log_and_ends_the_others(cache, journal):
    backend = CompilingBackend(journal, wanted={"1x77": "300", "8x16": "fail"})

    with pytest.raises(CompileError) as caught:
        build(backend, cache, jobs=2)

    assert caught.value.where == "shape 8x16"
    assert "the chisel broke" in caught.value.what
    assert "chiselling 8x16" in caught.value.what
    log = Path(caught.value.hint.removeprefix("the whole log: "))
    assert "chiselling 8x16" in log.read_text()
    assert list(cache.iterdir()) == [log]
    assert all(not psutil.pid_exists(int(pid)) for _, pid, _ in read_journal(journal))


def test_a_killed_compiler_is_told_as_such(cache, journal):
    backend = CompilingBackend(journal, wanted={"8x16": "kill"})

    with pytest.raises(CompileError, match="killed by SIGKILL") as caught:
        build(backend, cache, ladder=Ladder(LADDER.shapes[:1]))

    assert "memory ran out" in caught.value.hint
    assert "--jobs 1" in caught.value.hint
    assert "backend.artifacts" in caught.value.hint


def test_a_stop_ends_the_compilers_and_leaves_nothing(cache, journal):
    backend = CompilingBackend(journal, wanted={"1x77": "300", "8x16": "300"})
    watch = CompileWatch(is_stopped=lambda: len(read_journal(journal)) == 2)

    with pytest.raises(Incomplete):
        build(backend, cache, watch=watch, jobs=2)

    assert list(cache.iterdir()) == []
    assert all(not psutil.pid_exists(int(pid)) for _, pid, _ in read_journal(journal))


def build_alone(backend, cache, told):
    """The entry point of another run."""
    _, events = build(backend, cache, jobs=1)
    told.put(events)


def test_two_runs_at_once_compile_each_shape_once(cache, journal):
    backend = CompilingBackend(journal, wanted={"1x77": "0.5", "8x16": "0.5"})
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    runs = [context.Process(target=build_alone, args=(backend, cache, told)) for _ in range(2)]
    for run in runs:
        run.start()
    events = [event for _ in runs for event in told.get(timeout=60)]
    for run in runs:
        run.join()

    assert sorted(shape for shape, _, _ in read_journal(journal)) == ["1x77", "8x16"]
    assert sorted(event for event in events if event.startswith("compiled")) == [
        "compiled 1x77",
        "compiled 8x16",
    ]
    assert any(event.startswith("reused") for event in events)


def test_what_another_process_compiles_is_waited_for(backend, cache):
    (artifact,) = list_artifacts(backend, REQUEST, Ladder(LADDER.shapes[:1]), cache)
    cache.mkdir(mode=0o700)
    lock = try_build_lock(artifact.folder)
    told = []

    def hear(event):
        told.append(f"{event.step} {event.note}".strip())
        lock.release()

    compile_missing(backend, REQUEST, (artifact,), CompileWatch(hear))

    who = f"process {os.getpid()} on {socket.gethostname()}"
    assert told == [f"waiting {who} is compiling 8x16: waiting for it", "started", "compiled"]


def test_the_lock_of_a_dead_builder_is_no_obstacle(backend, cache):
    (artifact,) = list_artifacts(backend, REQUEST, Ladder(LADDER.shapes[:1]), cache)
    cache.mkdir(mode=0o700)
    if (child := os.fork()) == 0:
        _lock = try_build_lock(artifact.folder)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert artifact.folder.with_name(f"{artifact.key}.lock").exists()

    _, told = build(backend, cache, ladder=Ladder(LADDER.shapes[:1]))

    assert told == ["started 8x16", "compiled 8x16"]
    assert list(cache.iterdir()) == [artifact.folder]


# Sharing through a folder; tests/test_artifacts_s3.py has the bucket.


def test_another_machine_fetches_what_one_compiled(backend, tmp_path, journal):
    share = Sharing(str(tmp_path / "share"))
    build(backend, tmp_path / "one", sharing=share)

    compiled, told = build(backend, tmp_path / "two", sharing=share)

    assert told == ["fetched 1x77", "fetched 8x16"]
    assert all(is_intact(artifact.folder) for artifact in compiled.artifacts)
    assert len(read_journal(journal)) == 2


def test_a_broken_shared_entry_is_named_compiled_here_and_repaired(backend, tmp_path, journal):
    share = Sharing(str(tmp_path / "share"))
    compiled, _ = build(backend, tmp_path / "one", sharing=share)
    broken = tmp_path / "share" / compiled.artifacts[0].key
    (broken / "program.json").write_text("x")

    _, told = build(backend, tmp_path / "two", sharing=share)

    assert told[1].startswith(f"warned 8x16 {broken}: program.json has 1 bytes")
    assert told[2:] == ["started 8x16", "compiled 8x16"]
    assert build(backend, tmp_path / "three", sharing=share)[1] == ["fetched 1x77", "fetched 8x16"]
    assert len(read_journal(journal)) == 3


def test_a_share_that_cannot_be_written_costs_a_warning(backend, tmp_path):
    (tmp_path / "file").write_text("no folder")
    share = Sharing(str(tmp_path / "file" / "share"))

    compiled, told = build(backend, tmp_path / "one", sharing=share)

    assert [event.step for event in compiled.events] == ["compiled", "compiled"]
    assert len(compiled.not_shared) == 2
    assert sum("not shared: Not a directory" in event for event in told) == 2


def test_with_a_lock_file_only_what_it_names_is_used(backend, tmp_path, journal):
    from batchneuron.artifacts.share import write_pins

    share, lock = str(tmp_path / "share"), tmp_path / "lock.json"
    first, _ = build(backend, tmp_path / "one", sharing=Sharing(share))
    write_pins(lock, first.artifacts[:1])

    _, told = build(backend, tmp_path / "two", sharing=Sharing(share, str(lock)))

    where = f"{share}/{first.artifacts[1].key}"
    assert f"warned 1x77 {where}: not the entry that the lock file names: not used" in told
    assert told[-1] == "fetched 8x16"
    assert [shape for shape, _, _ in read_journal(journal)] == ["1x77", "8x16", "1x77"]


def test_no_lock_file_is_no_licence(backend, tmp_path):
    with pytest.raises(BackendError, match="cannot read the lock file"):
        build(backend, tmp_path / "one", sharing=Sharing(str(tmp_path / "share"), str(tmp_path / "none")))


# Upkeep.


def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(backend, cache):
    compiled, _ = build(backend, cache)
    old, new = compiled.artifacts
    os.utime(old.folder / "artifact.json", (1, 1))
    size = list_kept(cache, verifies=False)[0].size_bytes

    cleared = clear_cache(cache, None, size)
    assert [entry.key for entry in cleared.in_use] == [old.key, new.key]
    assert cleared.deleted == ()

    del compiled
    cleared = clear_cache(cache, None, size)
    assert [entry.key for entry in cleared.deleted] == [old.key]
    assert list(cache.iterdir()) == [new.folder]

    assert clear_cache(cache, 3600, None).deleted == ()
    os.utime(new.folder / "artifact.json", (1, 1))
    assert [entry.key for entry in clear_cache(cache, 3600, None).deleted] == [new.key]
    assert list(cache.iterdir()) == []


def test_leftovers_go_unless_somebody_builds(cache, backend):
    (artifact, _) = list_artifacts(backend, REQUEST, LADDER, cache)
    (cache / f".building-{artifact.key}-abc").mkdir(parents=True)
    (cache / f"{artifact.key}.log").write_text("killed")
    lock = try_build_lock(artifact.folder)
    assert clear_cache(cache, None, None).leftovers == 0

    lock.release()
    assert clear_cache(cache, None, None).leftovers == 1
    assert list(cache.iterdir()) == []


def test_broken_entries_are_found_and_deleted(cache, backend):
    compiled, _ = build(backend, cache)
    whole, flipped = (artifact.folder for artifact in compiled.artifacts)
    del compiled
    (flipped / "cache" / "program.neff").write_bytes(bytes(256))
    shutil.copytree(whole, cache / ("0" * 32))

    kept = list_kept(cache, verifies=True)
    assert {entry.key: entry.flaw for entry in kept} == {
        whole.name: None,
        flipped.name: "cache/program.neff has been altered",
        "0" * 32: "it is the entry of another program",
    }

    delete_broken(cache, tuple(entry for entry in kept if entry.flaw))
    assert list(cache.iterdir()) == [whole]
