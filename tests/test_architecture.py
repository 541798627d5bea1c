"""The rules that keep the tree readable, as tests: import direction, sizes, names, who may import what."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "batchneuron"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the top down: a module imports from its own line or from a lower one, never from a higher one.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["aws"],
    [
        "showing.progress",
        "showing.render",
        "showing.render_folder",
        "showing.render_machine",
        "showing.render_status",
        "stop",
    ],
    ["ledger.sweep", "ledger.verify", "ledger.replay", "ledger.retry"],
    [
        "planning.preview",
        "programs.precompile",
        "ledger.report",
        "ledger.status",
        "planning.freeze",
        "doctor",
        "starter",
    ],
    ["interactive.predictor"],
    ["run"],
    ["open_run"],
    ["planning.prepare", "watch"],
    ["engines"],
    ["programs.calibrate", "programs.parity", "programs.compile"],
    ["programs.sample"],
    ["programs.compiler", "workers.aside", "programs.measure"],
    [
        "workers.supervise",
        "workers.handout",
        "workers.roster",
        "ledger.lease",
        "workers.docket",
        "workers.watchdog",
        "workers.member",
    ],
    ["workers.worker_process"],
    ["workers.crew", "workers.rebuild", "workers.spawn"],
    ["workers.worker"],
    ["stages.runner"],
    ["workers.work_order", "ledger.leftover", "ledger.found", "ledger.finish"],
    ["ledger.run_folder"],
    ["ledger.plan_file"],
    ["ledger.run_names"],
    ["ledger.run_record"],
    ["pipelines", "modeling"],
    ["interactive.pipelines"],
    ["interactive.modeling"],
    ["interactive.static_program", "interactive.present"],
    ["interactive.saved_model", "interactive.older_words", "interactive.mistakes", "interactive.vectors"],
    ["stages.canary", "programs.padding"],
    [
        "stages.encode",
        "stages.execute",
        "stages.decode",
        "stages.columns",
        "stages.holes",
        "stages.write",
        "artifacts",
        "programs.compare",
    ],
    ["programs.program", "programs.optimum_folder", "programs.agreement"],
    ["programs.attention", "programs.text_inputs"],
    ["backends", "stores"],
    ["tasks"],
    ["stages.tokenize"],
    ["stages.fast_tokenizer"],
    ["programs.signature"],
    ["input_notes", "stages.items", "model", "workers.events", "workers.case", "workers.isolate"],
    ["planning.spread"],
    ["planning.plan", "workers.ticket", "stages.gather"],
    ["planning.forecast"],
    ["planning.ladder"],
    ["planning.shapes", "planning.cost", "planning.fingerprint"],
    ["sources"],
    ["spec"],
    ["disk", "hub_silence", "workers.pulse", "rejection", "secrets", "user_cache"],
    ["errors", "workers.stretches"],
    ["__init__", "planning", "stages", "programs", "workers", "ledger", "interactive", "showing"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Imported inside a function, on first use: what a torch backend loads, and the package's public API.
LAZY = {("backends", "programs.program")} | {
    ("__init__", name)
    for name in ("run", "interactive.pipelines", "interactive.modeling", "interactive.predictor")
}
BANNED_NAMES = {"utils", "common", "helpers", "base", "manager", "core"}

# Which libraries are whose.
OWNERS = {
    "click": {"cli"},
    "multiprocess": {
        "workers.spawn",
        "workers.aside",
        "programs.compile",
        "programs.compiler",
        "workers.worker",
        "workers.worker_process",
    },
    "ray": {"engines"},
    "datasets": {"sources"},
    "PIL": {"tasks", "interactive.present"},
    "torch": {
        "programs.program",
        "programs.attention",
        "programs.text_inputs",
        "tasks",
        "backends",
        "interactive.static_program",
        "interactive.modeling",
        "interactive.present",
        "interactive.vectors",
    },
    "torch_neuronx": {"backends"},
    "openvino": {"backends"},
    "boto3": {"artifacts", "aws", "stores"},
    "transformers": {
        *{"programs.program", "programs.attention", "stages.fast_tokenizer", "backends", "tasks"},
        *{
            "interactive.saved_model",
            "interactive.static_program",
            "interactive.present",
            "interactive.modeling",
            "interactive.pipelines",
        },
    },
    "ruamel": {"spec"},
    "rich": {"cli", "showing.progress", "showing.render"},
}


def layer_of(path: Path) -> str:
    return find_layer(path.relative_to(PACKAGE).with_suffix("").parts)


def find_layer(parts: Sequence[str]) -> str:
    """A folder is a layer, or each of its modules is one."""
    return dotted if (dotted := ".".join(parts[:2])) in RANK else parts[0]


def iter_imports(path: Path) -> Iterator[tuple[str, bool, int]]:
    """Module name, whether it stands inside a function, and its line; typing-only imports left out."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
        if inner is not node
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in inside, node.lineno
            if node.module == "batchneuron":
                for alias in node.names:
                    yield f"batchneuron.{alias.name}", id(node) in inside, node.lineno


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_downwards_only(path):
    own = RANK[layer_of(path)]
    for name, _, line in iter_imports(path):
        parts = name.split(".")
        if parts[0] != "batchneuron" or len(parts) == 1 or (layer := find_layer(parts[1:])) not in RANK:
            continue
        if (layer_of(path), layer) in LAZY:
            continue
        assert RANK[layer] >= own, f"{path}:{line} imports {name}, which stands above it"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_library_is_imported_by_its_owners_only(path):
    for name, _, line in iter_imports(path):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or layer_of(path) in owners, f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_has_one_idea(path):
    assert path.stem not in BANNED_NAMES
    assert len(path.read_text().splitlines()) <= 400, "look for the second noun"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, (
                f"{path}:{node.lineno} {node.name} does not fit a screen"
            )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_two_mains_catch_everything(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"}
            last = node.body[-1]
            passes_on = (isinstance(last, ast.Raise) and last.exc is None) or (
                # raised where it is waited for
                ast.unparse(last) == f"future.set_exception({node.name})"
            )
            assert (
                not broad
                or passes_on
                or path.relative_to(PACKAGE).as_posix() in {"cli/main.py", "workers/worker.py"}
            ), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_environment_is_read_by_its_owners_only(path):
    """Variables in a spec, the cache's place, a scheduler's number for its job, and what a backend owns."""
    owners = {"spec/parse.py", "user_cache.py", "workers/worker.py", "workers/ticket.py"}
    relative = path.relative_to(PACKAGE).as_posix()
    reads = "os.environ" in path.read_text() or "os.getenv" in path.read_text()
    assert not reads or relative in owners or relative.startswith("backends/")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_neuron_backends_know_the_sdk(path):
    """Its library, and the names of its variables."""
    if path.relative_to(PACKAGE).as_posix().startswith("backends/neuron_"):
        return
    assert not [line for name, _, line in iter_imports(path) if name.split(".")[0] == "torch_neuronx"]
    for node in ast.walk(ast.parse(path.read_text())):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        assert not re.fullmatch(r"(NEURON|TORCH_NEURONX)_[A-Z_]+", text), f"{path}: {text}"


@pytest.mark.parametrize(
    "name",
    [
        "batchneuron",
        *(
            f"batchneuron.{name}"
            for name in (
                "cli",
                "run",
                "workers.worker",
                "pipelines",
                "modeling",
                "interactive.pipelines",
                "interactive.modeling",
                "interactive.predictor",
            )
        ),
    ],
)
def test_importing_is_light(name):
    """The parent plans and supervises without a framework; a worker's environment comes before torch."""
    heavy = "{'torch', 'transformers', 'datasets', 'torch_neuronx', 'openvino', 'ray'}"
    code = f"import sys, {name}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_help_waits_for_no_library():
    """All commands are imported to list them; what they need they import when they run."""
    heavy = "{'numpy', 'pyarrow', 'pydantic', 'rich', 'ruamel', 'multiprocess', 'tokenizers'}"
    code = f"import sys, batchneuron.cli; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
