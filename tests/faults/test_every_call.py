"""System calls that kill or fail, one after the other, by strace: see `calls.py`."""

import shutil
import subprocess

import pytest

from tests.faults.test_every_step import run_loop


def explain_missing():
    """Why system calls cannot be injected on this machine; empty: they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    words = ["strace", "-e", "trace=close", "-e", "inject=close:error=EIO:when=9999", "true"]
    tried = subprocess.run(words, capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()[-200:]}"


NO_STRACE = explain_missing()
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(NO_STRACE), reason=NO_STRACE),
]

KILLED = ["write,pwrite64", "fsync", "link,linkat", "unlink,unlinkat", "openat"]


@pytest.mark.case(2)
@pytest.mark.parametrize("names", KILLED)
def test_a_death_at_any_call_leaves_nothing_torn_and_the_next_run_completes(names, tmp_path, injected):
    lines = run_loop("calls.py", tmp_path, "kill", names)

    injected(len(lines))
    assert all(line.endswith(": -9") for line in lines)
    assert len(lines) >= 5


FAILING = [
    # Not write: pipes between processes are written to as well, and one that fails there is waited for.
    *(("ENOSPC", names, 8) for names in ("fsync", "close", "link,linkat")),
    ("EIO", "fsync", 9),
    ("EDQUOT", "link,linkat", 10),
    *((error, "openat", 10) for error in ("EMFILE", "EROFS", "EACCES")),
    *((error, "link,linkat", 10) for error in ("EROFS", "EACCES")),
]


@pytest.mark.parametrize(
    ("error", "names"),
    [pytest.param(error, names, marks=pytest.mark.case(case)) for error, names, case in FAILING],
)
def test_a_call_that_fails_is_told_by_its_cause(error, names, tmp_path, injected):
    lines = run_loop("calls.py", tmp_path, error, names)

    injected(len(lines))
    assert any(not line.endswith("through") for line in lines)


@pytest.mark.case(11)
def test_without_hard_links_it_renames_and_without_either_it_says_so(tmp_path, injected):
    lines = run_loop("no_links.py", tmp_path)

    injected(len(lines))
    assert lines == ["renamed: 0", "refused: 78"]
