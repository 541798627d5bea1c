"""Power loss: what a runner has acknowledged is found again, and nothing torn stands where a part belongs.

The package's own `run_job` in a local folder. The current fails at its first step on disk, at its second …
until a run gets through; each time in three ways, and then the job is run again on what is left.
"""

import itertools
import json

import pytest

from batchneuron.stores import local
from batchneuron.stores.local import LocalStore
from tests.stores import protocol
from tests.stores.explore import Violation
from tests.stores.model_bucket import Stored
from tests.stores.power import KEPT, LOST, Disk, PowerCut

FATES = (LOST, KEPT, 1)


@pytest.fixture(autouse=True)
def simple_world():
    with protocol.simple_world():
        yield


def run_in(root, name, say=lambda _: None):
    numbers = itertools.count()
    runner = protocol.Runner(LocalStore(root), name, lambda: f"{name}{next(numbers):04}", say)
    return runner.run("x")


def read_objects(root):
    """The run folder as the protocol's checks see it; a part's generation is in its file."""
    return {
        f"run/{path.relative_to(root)}": Stored(path.read_bytes(), (("attempt", "a.1"),))
        for path in root.rglob("*")
        if path.is_file()
    }


def require_whole_parts(root):
    for path in (root / "data").glob("*"):
        whole = {protocol.make_part(fingerprint_of(root), name) for name in ("first.1", "second.1")}
        if path.read_bytes() not in whole:
            raise Violation(f"{path.name} is torn")


def fingerprint_of(root):
    return json.loads((root / ".batchneuron/run.json").read_text())["fingerprint"]


def lose_power(tmp_path, step):
    """Run until that step, and judge what may be left; whether the run got that far."""
    home = tmp_path / f"{step}"
    home.mkdir()
    disk, said = Disk(home), []
    images = [tmp_path / f"{step}-{fate}" for fate in FATES]

    def write_all():
        for image, fate in zip(images, FATES, strict=True):
            disk.after_a_cut(image, fate)

    try:
        with disk.cut_at(step, write_all):
            assert run_in(home / "out", "first", said.append) == "done"
    except PowerCut:
        for image in images:
            judge(image / "out", said)
        return True
    return False


def judge(root, said):
    for name in said:
        if not (root / name).exists():
            raise Violation(f"{name} was acknowledged, and is gone")
    require_whole_parts(root)
    if (outcome := run_in(root, "second")) != "done":
        raise Violation(outcome)
    require_whole_parts(root)
    protocol.check_manifest(read_objects(root))


def lose_power_everywhere(tmp_path):
    """The number of steps there are."""
    return next(step for step in itertools.count(1) if not lose_power(tmp_path, step)) - 1


@pytest.mark.case(7)
def test_what_is_acknowledged_outlives_the_power(tmp_path):
    assert lose_power_everywhere(tmp_path) > 20


@pytest.mark.case(7)
@pytest.mark.parametrize(
    "is_flushed, told",
    [
        (lambda path: path.is_dir(), "is torn|damaged"),
        (lambda path: path.name != "data", "was acknowledged, and is gone"),
        (lambda path: path.is_file() or path.name == "data", "was acknowledged, and is gone"),
    ],
    ids=["files are not flushed", "the parts' folder is not", "the folders above are not"],
)
def test_who_does_not_flush_is_caught(tmp_path, monkeypatch, is_flushed, told):
    flush = local._fsync
    monkeypatch.setattr(local, "_fsync", lambda path: flush(path) if is_flushed(path) else None)

    with pytest.raises(Violation, match=told):
        lose_power_everywhere(tmp_path)


def test_the_disk_of_the_tests_forgets_what_was_not_flushed(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    disk = Disk(home)
    with disk.cut_at(None, lambda: None):
        (home / "kept").write_bytes(b"1234")
        local._fsync(home / "kept")
        (home / "torn").write_bytes(b"1234")
        local._fsync(home)
        (home / "unnamed").write_bytes(b"1234")
    for fate in (LOST, KEPT):
        disk.after_a_cut(tmp_path / fate, fate)

    found = {
        fate: {path.name: path.read_bytes() for path in (tmp_path / fate).iterdir()} for fate in (LOST, KEPT)
    }
    assert found[LOST] == {"kept": b"1234", "torn": b""}
    assert found[KEPT] == {"kept": b"1234", "torn": b"12", "unnamed": b"12"}
