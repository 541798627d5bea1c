"""Why neuronx-cc failed, from its exception and its log."""

from __future__ import annotations

import re
from pathlib import Path

from batchneuron.errors import CompileError
from batchneuron.planning.shapes import Shape

LOG = "log-neuron-cc.txt"
"""The compiler's own name for it."""
_TAIL_LINES = 20
_LONGEST = 4000
_CODE = re.compile(r"\bNCC_[A-Z]+\d{3}\b")
_EXIT = re.compile(
    r"(?:exit(?:ed)?(?: with)?(?: code| status)?|returncode|failed with|code)\D{0,6}(-\d+)\b", re.I
)
_PAGES = "https://awsdocs-neuron.readthedocs-hosted.com/en/latest/compiler/error-codes/"
_EXIT_CODES = {
    -9: "the compiler was killed, which means that memory ran out",
    -6: "the compiler gave up (abort)",
    -11: "the compiler crashed (segmentation fault)",
}
_MORE_MEMORY = "compile fewer shapes at a time, or on a machine with more memory; it need not have a device"
_CRASHED = (
    "try another neuronx-cc, or compiler_args: {optlevel: 1}; SDK issues #751 and #1265 are of this kind"
)
_DEVICE_MEMORY = ("NCC_EOOM001", "NCC_EOOM002")


def describe_failure(error: Exception, shape: Shape, folder: Path) -> CompileError:
    """The error to raise for the compiler's.

    Args:
        error: what it raised.
        shape: the one that was compiled.
        folder: where it left its log, if it did.
    """
    log = find_log(folder)
    tail = read_tail(log) if log else ""
    text = f"{error}\n{tail}"
    code = next(iter(_CODE.findall(text)), None)
    status = int(found[1]) if (found := _EXIT.search(text)) else None
    if "[F137]" in text or "forcibly killed" in text:
        status = -9
    what = _EXIT_CODES.get(status or 0, f"the compiler failed: {str(error).strip()[-_LONGEST:]}")
    end = f"\n{tail}" if tail else ""
    where = f"shape {shape}" + (f", log {log}" if log else "")
    return CompileError(f"{what}{end}", where, _advise(status, code))


def find_log(folder: Path) -> Path | None:
    """The newest log below a folder; None where there is none."""
    logs = [path for path in folder.rglob(LOG) if path.is_file()]
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def read_tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])[-_LONGEST:]


def _advise(status: int | None, code: str | None) -> str:
    if status == -9:
        return _MORE_MEMORY
    if code is not None and code in _DEVICE_MEMORY:
        return f"the program does not fit the device: lower shapes.batch_size ({_name_page(code)})"
    if code is not None:
        return f"see {_name_page(code)}"
    return _CRASHED if status in _EXIT_CODES else "the compiler's log says why"


def _name_page(code: str) -> str:
    """The SDK's page on an error code."""
    return f"{_PAGES}{code.removeprefix('NCC_')}.html"
