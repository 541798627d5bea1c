"""Standard streams that are closed, broken or full, and terminals: the run goes on, and says what it can."""

import contextlib
import fcntl
import os
import re
import subprocess
import termios
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.harness import require_whole
from tests.faults.processes import LIGHT, Job

pytestmark = pytest.mark.faults

ROWS = 1_000
JOB = (
    f"input.limit={ROWS}",
    "output.shard_rows=50",
    "backend.workers=1",
    "shapes={batch_size: 32, sequence_length: [64, 128]}",
)
CONTROL = re.compile(r"\x1b")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path / "job", JOB, LIGHT)


def require_done(job, command):
    assert command.wait() == 0, command.stderr
    require_whole(job.output, ROWS)


def close(*descriptors):
    """In the child, before it begins."""
    return lambda: [os.close(descriptor) for descriptor in descriptors]


@pytest.mark.case(49)
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=["stdout", "stderr", "all"])
def test_streams_that_are_closed_stop_nobody(job, closed):
    require_done(job, job.start(preexec_fn=close(*closed)))


@pytest.mark.case(49)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_log_disk_stops_nobody(job, stream):
    with Path("/dev/full").open("wb") as full:
        command = job.start(**{stream: full})
    require_done(job, command)
    if stream == "stdout":
        assert "stdout takes no summary: No space left on device" in command.stderr


@pytest.mark.case(49)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone_stops_nobody(job, stream):
    ours, theirs = os.pipe()
    os.close(ours)
    command = job.start(**{stream: theirs})
    os.close(theirs)
    require_done(job, command)


@pytest.mark.case(49)
def test_off_a_terminal_lines_are_plain(job):
    command = job.start(stdout=subprocess.PIPE)
    require_done(job, command)
    printed = command.process.stdout.read().decode() + command.stderr
    assert "1,000 rows" in printed and not CONTROL.search(printed)


class Terminal:
    """A terminal of its own, with the job in front, and all that was written to it."""

    def __init__(self, job, kind):
        self._ours, self._theirs = os.openpty()
        self.before = termios.tcgetattr(self._theirs)
        streams = {name: self._theirs for name in ("stdin", "stdout", "stderr")}
        job = replace(job, environment={"TERM": kind})
        self.command = job.start(**streams, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self._written = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with contextlib.suppress(OSError):
            while content := os.read(self._ours, 4096):
                self._written += content

    def press_ctrl_c(self):
        os.write(self._ours, b"\x03")

    @property
    def written(self):
        return self._written.decode()

    @property
    def settings(self):
        return termios.tcgetattr(self._theirs)

    def close(self):
        os.close(self._theirs)
        self._reader.join(5)
        os.close(self._ours)


@pytest.fixture
def open_terminal(job):
    opened = []

    def start(kind):
        opened.append(Terminal(job, kind))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.command.process.kill()
        terminal.close()


@pytest.mark.case(49)
def test_a_dumb_terminal_gets_no_control_codes(job, open_terminal):
    terminal = open_terminal("dumb")
    require_done(job, terminal.command)
    assert "1,000 rows" in terminal.written
    assert not CONTROL.search(terminal.written)


@pytest.mark.case(6)
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_the_terminal_as_it_was(job, open_terminal, times):
    terminal = open_terminal("xterm-256color")
    terminal.command.wait_for_parts(1, timeout_s=60)
    assert terminal.command.is_alive
    if times == 2:
        for worker in terminal.command.list_workers():
            worker.suspend()  # nothing in hand can be finished
    for _ in range(times):
        terminal.press_ctrl_c()
        threading.Event().wait(0.3)

    assert terminal.command.wait(30) == 130, terminal.written
    terminal.command.require_alone()
    assert terminal.settings == terminal.before
    assert HIDE in terminal.written
    assert terminal.written.rindex(SHOW) > terminal.written.rindex(HIDE)
    assert "Traceback" not in terminal.written
