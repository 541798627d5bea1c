"""Which of this package's own files can change a compiled program, and one digest of them.

A program is what tracing runs: `program.py`, the task's file, the backend's file, and what these import,
except for the parts that handle rows, specs and messages and never meet a tensor. The lists of tasks and
of backends are passed over too: they only choose, and what they choose is in the key already.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
import threading
from pathlib import Path

from batchneuron.backends.backend import Backend, CompileRequest
from batchneuron.tasks import find_kind

NEVER_TRACED = frozenset(
    {
        *("spec", "sources", "stores", "artifacts", "workers", "ledger", "interactive.saved_model"),
        *("stages.execute", "stages.tokenize", "rejection", "secrets", "disk", "errors"),
        *(f"planning.{name}" for name in ("plan", "ladder", "forecast", "cost", "fingerprint")),
    }
)
"""Parts of the package that no tracing reaches; imports are followed into all others, new ones included."""
_PACKAGE = Path(__file__).parent.parent
_NAME = "batchneuron"
_PARSER = threading.Lock()  # CPython 3.11 counts how deep it is for all threads together (gh-106905)


def digest_sources(backend: Backend, request: CompileRequest) -> str:
    """SHA-256 over the source files of the program, 64 hex digits."""
    kind = request.kind or find_kind(request.task)
    roots = {f"{_NAME}.programs.program", type(backend).__module__, getattr(kind.open, "__module__", "")}
    if request.kind is not None:  # made while running, it may wrap any task
        roots |= {f"{_NAME}.tasks.{path.stem}" for path in (_PACKAGE / "tasks").glob("*.py")}
    foreign = sorted(name for name in roots if name.partition(".")[0] != _NAME)
    files = [getattr(sys.modules.get(name), "__file__", None) for name in foreign]
    return digest_modules(tuple(sorted(roots)), tuple(Path(file) for file in files if file))


@functools.cache
def digest_modules(roots: tuple[str, ...], foreign: tuple[Path, ...] = (), package: Path = _PACKAGE) -> str:
    """SHA-256 over the roots' files, all that they import, and some files from elsewhere."""
    found = find_modules(roots, package)
    total = hashlib.sha256()
    for path in (*(found[name] for name in sorted(found)), *foreign):
        content = path.read_bytes()
        total.update(f"{path.name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def find_modules(roots: tuple[str, ...], package: Path = _PACKAGE) -> dict[str, Path]:
    """The files of some modules and of all they import, by module name."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = _path_of(name, package)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += [name for name in _list_imports(path) if not _is_never_traced(name)]
    return found


def _path_of(name: str, package: Path) -> Path | None:
    """The file of a module of this package; None for a package, and for what is not a module."""
    parts = name.split(".")
    path = package.joinpath(*parts[1:]).with_suffix(".py")
    return path if parts[0] == _NAME and len(parts) > 1 and path.is_file() else None


def _is_never_traced(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == _NAME and not NEVER_TRACED.isdisjoint({".".join(parts[1:2]), ".".join(parts[1:3])})


def _list_imports(path: Path) -> list[str]:
    """What a file may import, wherever in it; `from a import b` may mean the module a or a.b."""
    names: list[str] = []
    with _PARSER:
        tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
